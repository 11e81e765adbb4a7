//! ONNX Runtime's errors made readable: one line, without the paths and signatures of its sources.

use crate::allocator;
use crate::error::Error;

/// How it says that it has got no memory: in its own words, and in those of C++.
const OUT_OF_MEMORY: [&str; 2] = ["Failed to allocate memory", "bad_alloc"];

/// The model is not one that ONNX Runtime loads.
pub fn refused(error: ort::Error) -> Error {
    let reason = clean(error.message());
    out_of_memory(&reason)
        .unwrap_or_else(|| Error::unimplemented(format!("ONNX Runtime: {reason}")))
}

/// A run has failed.
pub fn failed(error: ort::Error) -> Error {
    let reason = clean(error.message());
    out_of_memory(&reason)
        .unwrap_or_else(|| Error::internal(format!("ONNX Runtime failed: {reason}")))
}

fn out_of_memory(reason: &str) -> Option<Error> {
    let is_out = OUT_OF_MEMORY.iter().any(|words| reason.contains(words));
    is_out.then(|| {
        allocator::note_refusal();
        Error::out_of_memory("ONNX Runtime needs more memory than there is").with_source(reason)
    })
}

/// The library itself does not work.
pub fn unavailable(error: ort::Error) -> Error {
    Error::unavailable(clean(error.message()))
}

/// What of a message says something to the owner of a model.
pub fn clean(message: &str) -> String {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let message = match message.split_once(" failed:") {
        Some((load, reason)) if load.starts_with("Load model from") => reason,
        _ => &message,
    };
    let message = without_locations(message);
    node(&message).unwrap_or(message)
}

/// `operator X (node 'Y'): why` in place of ONNX Runtime's words for it.
fn node(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("returned while running ")?;
    let (operator, rest) = rest.split_once(" node. Name:'")?;
    let (name, rest) = rest.split_once('\'')?;
    let (_, reason) = rest.split_once("Status Message: ")?;
    Some(format!("operator {operator} (node '{name}'): {reason}"))
}

/// Leaves out every `/path/file.cc:12 type name(arguments) [with …] `.
fn without_locations(message: &str) -> String {
    let mut kept = String::new();
    let mut rest = message;
    while let Some((before, after)) = location(rest) {
        kept.push_str(before);
        rest = after_signature(after).trim_start();
    }
    kept + rest
}

/// What comes before and after the first place in a C++ source.
fn location(text: &str) -> Option<(&str, &str)> {
    let ends = text.match_indices([' ', ':']).map(|(at, _)| at + 1);
    let mut starts = std::iter::once(0).chain(ends);
    starts.find_map(|start| {
        let word = text[start..].split(' ').next()?;
        let (file, line) = word.rsplit_once(':')?;
        let is_source = file.starts_with('/')
            && [".cc", ".h", ".cpp", ".hpp"]
                .iter()
                .any(|end| file.ends_with(end));
        let is_line = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
        (is_source && is_line).then(|| (&text[..start], &text[start + word.len()..]))
    })
}

/// What follows a function's signature: past its arguments, which may hold brackets of their own.
fn after_signature(text: &str) -> &str {
    let mut depth = 0usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        let rest = &text[at + letter.len_utf8()..];
        let ends = depth == 0 && letter == ')' && (rest.is_empty() || rest.starts_with(' '));
        if ends {
            let rest = rest.strip_prefix(" const").unwrap_or(rest);
            let templated = rest.strip_prefix(" [with ");
            return templated.map_or(rest, |rest| past_bracket(rest));
        }
    }
    text
}

/// What follows the `]` that ends the text's first level.
fn past_bracket(text: &str) -> &str {
    let mut depth = 1usize;
    for (at, letter) in text.char_indices() {
        match letter {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[at + 1..];
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_sources_are_left_out() {
        let message = "/onnxruntime_src/onnxruntime/core/graph/model.cc:149 onnxruntime::Model::Model(onnx::ModelProto&&, \
                       const std::function<void(int)>&) Unsupported model IR version: 14, max supported IR version: 13\n";
        assert_eq!(
            clean(message),
            "Unsupported model IR version: 14, max supported IR version: 13"
        );
        let message = "bad: /a/b.h:7 T f<T>(g<int[2]>) const [with T = h[3]; U = int] left != right was false.";
        assert_eq!(clean(message), "bad: left != right was false.");
        assert_eq!(
            clean("plain text (with brackets): 1:2"),
            "plain text (with brackets): 1:2"
        );
    }

    #[test]
    fn the_node_that_fails_is_told_first() {
        let message = "Non-zero status code returned while running Concat node. Name:'join' Status Message: \
                       /o/concat.cc:154 onnxruntime::common::Status onnxruntime::ConcatBase::Prepare(int) const \
                       Non concat axis dimensions must match";
        assert_eq!(
            clean(message),
            "operator Concat (node 'join'): Non concat axis dimensions must match"
        );
    }

    #[test]
    fn the_address_of_a_model_in_memory_is_left_out() {
        let message =
            "Load model from  failed:This is an invalid model.\nNo opset import for domain 'x'";
        assert_eq!(
            clean(message),
            "This is an invalid model. No opset import for domain 'x'"
        );
    }
}
