//! One element at a time: JSON values convert only without loss, and the message names the place.

use crate::support::samples::samples;

/// Sends one element behind a good one, in each style.
#[track_caller]
fn refused(dtype: &str, good: &str, bad: &str, got: &str) {
    let message = format!("input 'x', element 1: expected {dtype}, got {got}");
    let path = format!("/predict/{}", dtype.to_lowercase());
    let object = format!(r#""name": "x", "datatype": "{dtype}", "shape": [2]"#);
    for body in [
        format!(r#"{{"instances": [{good}, {bad}]}}"#),
        format!(r#"{{"instances": [{{"x": {good}}}, {{"x": {bad}}}]}}"#),
        format!(r#"{{"inputs": [{good}, {bad}]}}"#),
        format!(r#"{{"inputs": {{"x": [{good}, {bad}]}}}}"#),
        format!(r#"{{"inputs": [{{{object}, "data": [{good}, {bad}]}}]}}"#),
        format!(r#"{{"inputs": [{{"data": [{good}, {bad}], {object}}}]}}"#),
    ] {
        let answer = samples().post(&path, body.as_str());
        assert_eq!(
            (answer.status, answer.error()),
            (400, message.clone()),
            "{body}"
        );
    }
}

#[track_caller]
fn taken(dtype: &str, element: &str, answered: &str) {
    let body = format!(r#"{{"instances": [{element}]}}"#);
    let answer = samples().post(&format!("/predict/{}", dtype.to_lowercase()), body);
    let expected = format!(r#""predictions":[{answered}]}}"#);
    assert!(
        answer.text().ends_with(&expected),
        "{element}: {}",
        answer.text()
    );
}

#[test]
fn whole_numbers_convert_only_without_loss() {
    refused("INT64", "1", "1.5", "1.5");
    refused("INT64", "1", "9223372036854775808", "9223372036854775808");
    refused("UINT8", "1", "300", "300");
    refused("UINT8", "1", "-1", "-1");
    refused("INT8", "1", "128", "128");
    refused(
        "UINT64",
        "1",
        "18446744073709551616",
        "18446744073709552000",
    );
    refused("INT32", "1", "NaN", "NaN or an infinity");
    refused("INT32", "1", "true", "true");
    refused("INT32", "1", "null", "null");
    refused("INT32", "1", "\"1\"", "the string \"1\"");
    taken("INT64", "2.0", "2");
    taken("INT64", "1e3", "1000");
    taken("INT16", "-0", "0");
    taken("INT64", "-9223372036854775808", "-9223372036854775808");
    taken("UINT64", "18446744073709551615", "18446744073709551615");
}

#[test]
fn floats_take_whole_numbers_and_never_overflow() {
    refused(
        "FP32",
        "1",
        "1e39",
        "1000000000000000000000000000000000000000",
    );
    refused("FP16", "1", "70000", "70000");
    refused("FP32", "1", "\"2\"", "the string \"2\"");
    refused("FP32", "1", "null", "null");
    refused("FP32", "1", "false", "false");
    taken("FP32", "16777216", "16777216.0");
    taken("FP64", "-3", "-3.0");
    taken("FP32", "-0.0", "-0.0");
}

#[test]
fn booleans_and_strings_take_only_their_own() {
    refused("BOOL", "true", "1", "1");
    refused("BOOL", "true", "\"true\"", "the string \"true\"");
    refused("BYTES", "\"a\"", "1", "1");
    refused("BYTES", "\"a\"", "NaN", "NaN or an infinity");
    refused("BYTES", "\"a\"", "null", "null");
}

#[test]
fn an_object_is_an_element_only_as_base64_of_bytes() {
    let check = |dtype: &str, data: &str, problem: &str| {
        let body = format!(
            r#"{{"inputs": [{{"name": "x", "datatype": "{dtype}", "shape": [1], "data": [{data}]}}]}}"#
        );
        let answer = samples().post(&format!("/predict/{}", dtype.to_lowercase()), body);
        answer.is_error(400, problem);
    };
    check(
        "FP32",
        r#"{"b64": "AAAA"}"#,
        "input 'x', element 0: expected FP32, got an object",
    );
    check(
        "BYTES",
        r#"{"text": "a"}"#,
        "input 'x', element 0: expected BYTES, got an object",
    );
    check(
        "BYTES",
        r#"{"b64": "not base64"}"#,
        "input 'x', element 0: expected BYTES, got text in b64 that is not base64",
    );
}

#[test]
fn base64_is_checked_in_every_style() {
    refused(
        "BYTES",
        "\"a\"",
        r#"{"b64": "not base64"}"#,
        "text in b64 that is not base64",
    );
}

/// DEL begins what the reader makes of a bare `NaN`, but it is a character like any other.
#[test]
fn any_text_is_a_string_element() {
    taken("BYTES", r#""\u007f""#, "\"\u{7f}\"");
    taken("BYTES", r#""\u007fInfin""#, "\"\u{7f}Infin\"");
    taken("BYTES", r#""NaN""#, r#""NaN""#);
    taken("BYTES", r#""""#, r#""""#);
}
