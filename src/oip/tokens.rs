//! Lets the bare tokens `NaN`, `Infinity` and `-Infinity` through a JSON parser that does not know them.
//!
//! TensorFlow Serving, rapidjson and Python write them. After a syntax error the body is rewritten once: each
//! bare token becomes a string of the same length that begins with a byte no client writes, so that every
//! position in later errors still holds. Text inside strings is left alone.

use std::borrow::Cow;

/// Each token, the string that takes its place, and its value. The strings begin with DEL, which JSON allows in a
/// string and people do not write.
const TOKENS: [(&[u8], &[u8], f64); 3] = [
    (b"NaN", b"\"\x7f\"", f64::NAN),
    (b"Infinity", b"\"\x7fInfin\"", f64::INFINITY),
    (b"-Infinity", b"\"\x7f-Infin\"", f64::NEG_INFINITY),
];

/// The body with its bare tokens rewritten, or `None` where there are none.
pub fn rewrite(body: &[u8]) -> Option<Vec<u8>> {
    let mut rewritten = Cow::Borrowed(body);
    let mut at = 0;
    while at < body.len() {
        if body[at] == b'"' {
            at = end_of_string(body, at);
        } else if let Some((token, replacement, _)) = TOKENS
            .iter()
            .find(|(token, ..)| body[at..].starts_with(token))
        {
            rewritten.to_mut()[at..at + token.len()].copy_from_slice(replacement);
            at += token.len();
        } else {
            at += 1;
        }
    }
    match rewritten {
        Cow::Owned(rewritten) => Some(rewritten),
        Cow::Borrowed(_) => None,
    }
}

/// The index behind the string that opens at `start`.
fn end_of_string(body: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < body.len() {
        match body[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

/// The number that stands in quotes, which is all that a client in JavaScript can send.
pub fn quoted(text: &str) -> Option<f64> {
    TOKENS
        .iter()
        .find(|(token, ..)| *token == text.as_bytes())
        .map(|&(.., value)| value)
}

/// The number that a string stands for which [`rewrite`] put there.
pub fn marked(text: &str) -> Option<f64> {
    let is_marked = |replacement: &[u8]| &replacement[1..replacement.len() - 1] == text.as_bytes();
    TOKENS
        .iter()
        .find(|(_, replacement, _)| is_marked(replacement))
        .map(|&(.., value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_tokens_are_rewritten_and_positions_stay() {
        let body = br#"{"a":[NaN,-Infinity,Infinity,"NaN","\"Infinity"]}"#;
        let rewritten = rewrite(body).expect("there are bare tokens");
        assert_eq!(rewritten.len(), body.len());
        let values: Vec<String> = serde_json::from_slice::<serde_json::Value>(&rewritten)
            .expect("it is JSON now")["a"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|value| value.as_str().expect("a string").to_owned())
            .collect();
        assert!(marked(&values[0]).is_some_and(f64::is_nan));
        assert_eq!(marked(&values[1]), Some(f64::NEG_INFINITY));
        assert_eq!(marked(&values[2]), Some(f64::INFINITY));
        assert_eq!(values[3..], ["NaN", "\"Infinity"]);
        assert!(marked(&values[3]).is_none() && quoted(&values[3]).is_some_and(f64::is_nan));
    }

    #[test]
    fn a_body_without_tokens_is_not_copied() {
        assert_eq!(rewrite(br#"{"a":["NaN"#), None);
        assert_eq!(rewrite(br#"{"a":1,"b":"ends in \"#), None);
    }
}
