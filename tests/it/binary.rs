//! The binary tensor extension, byte by byte: what goes in, what comes out, and the headers beside it.

mod properties;

use std::io::Write;

use expect_test::{Expect, expect};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::client::{Answer, Request};
use crate::support::samples::samples;
use crate::support::server::bundled;

pub const JSON_LENGTH: &str = "inference-header-content-length";

/// A body of JSON and raw tensors, with its header.
fn binary(path: &str, json: &str, raw: &[u8]) -> Request {
    let body = [json.as_bytes(), raw].concat();
    Request::post(path, body).with(JSON_LENGTH, &json.len().to_string())
}

fn floats(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Checks an answer's JSON and the raw tensors behind it; without any there is no header.
#[track_caller]
fn check(answer: &Answer, json: Expect, raw: Option<&[u8]>) {
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    let raw_bytes = raw.map_or(0, <[u8]>::len);
    let (head, tail) = answer.body.split_at(answer.body.len() - raw_bytes);
    json.assert_eq(&String::from_utf8_lossy(head));
    assert_eq!(tail, raw.unwrap_or_default());
    let length = head.len().to_string();
    let (length, kind) = match raw {
        Some(_) => (Some(length.as_str()), "application/octet-stream"),
        None => (None, "application/json"),
    };
    assert_eq!(answer.header(JSON_LENGTH), length);
    assert_eq!(answer.header("content-type"), Some(kind));
}

const ROWS: &str = "/v2/models/rows/infer";
const X: &str = r#""name":"x","datatype":"FP32","shape":[1,2]"#;

#[test]
fn a_binary_input_is_answered_as_asked() {
    let raw = floats(&[1.5, -2.0]);
    let ask = |rest: &str| {
        let json = format!(r#"{{"inputs":[{{{X},"parameters":{{"binary_data_size":8}}}}]{rest}}}"#);
        samples().ask(&binary(ROWS, &json, &raw))
    };
    let as_json = || {
        expect![[
            r#"{"model_name":"rows","model_version":"1","outputs":[{"name":"x_out","datatype":"FP32","shape":[1,2],"data":[1.5,-2.0]}]}"#
        ]]
    };
    let as_binary = || {
        expect![[
            r#"{"model_name":"rows","model_version":"1","outputs":[{"name":"x_out","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]}"#
        ]]
    };
    check(&ask(""), as_json(), None);
    for asked in [
        r#","parameters":{"binary_data_output":true}"#,
        r#","outputs":[{"name":"x_out","parameters":{"binary_data":true}}]"#,
        r#","parameters":{"binary_data_output":false},"outputs":[{"name":"x_out","parameters":{"binary_data":true}}]"#,
        r#","parameters":{"binary_data_output":true},"outputs":[{"name":"x_out"}]"#,
    ] {
        check(&ask(asked), as_binary(), Some(&raw));
    }
    let overridden = r#","parameters":{"binary_data_output":true},"outputs":[{"name":"x_out","parameters":{"binary_data":false}}]"#;
    check(&ask(overridden), as_json(), None);
}

#[test]
fn inputs_and_outputs_may_be_mixed() {
    let json = r#"{"id":"","inputs":[{"name":"b","datatype":"INT64","shape":[2],"parameters":{"binary_data_size":16}},{"name":"a","shape":[2,2],"datatype":"FP32","data":[1,2,3,4]}],"outputs":[{"name":"a_out","parameters":{"binary_data":true}},{"name":"b_out"}]}"#;
    let raw: Vec<u8> = [7i64, -1]
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    check(
        &samples().ask(&binary("/v2/models/pair/infer", json, &raw)),
        expect![[
            r#"{"model_name":"pair","model_version":"1","outputs":[{"name":"a_out","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}},{"name":"b_out","datatype":"INT64","shape":[2],"data":[7,-1]}]}"#
        ]],
        Some(&floats(&[1.0, 2.0, 3.0, 4.0])),
    );
}

#[test]
fn two_raw_tensors_stand_in_the_order_of_their_objects() {
    let json = r#"{"inputs":[{"name":"b","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}},{"name":"a","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}],"outputs":[{"name":"b_out"},{"name":"a_out"}],"parameters":{"binary_data_output":true}}"#;
    let raw = [&5i64.to_le_bytes()[..], &floats(&[1.0, 2.0])].concat();
    check(
        &samples().ask(&binary("/v2/models/pair/infer", json, &raw)),
        expect![[
            r#"{"model_name":"pair","model_version":"1","outputs":[{"name":"b_out","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}},{"name":"a_out","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]}"#
        ]],
        Some(&raw),
    );
}

#[test]
fn json_alone_may_state_its_length() {
    let json = format!(r#"{{"id":"","inputs":[{{{X},"data":[1,2]}}]}}"#);
    let answer = samples().ask(&binary(ROWS, &json, b""));
    check(
        &answer,
        expect![[
            r#"{"model_name":"rows","model_version":"1","outputs":[{"name":"x_out","datatype":"FP32","shape":[1,2],"data":[1.0,2.0]}]}"#
        ]],
        None,
    );
    let rows = r#"{"instances":[[1,2]]}"#;
    let answer = samples().ask(&binary("/predict/rows", rows, b""));
    check(
        &answer,
        expect![[r#"{"model_name":"rows","model_version":"1","predictions":[[1.0,2.0]]}"#]],
        None,
    );
}

#[test]
fn tensors_without_elements_have_no_bytes() {
    let json = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[0,2],"parameters":{"binary_data_size":0}}],"parameters":{"binary_data_output":true}}"#;
    check(
        &samples().ask(&binary(ROWS, json, b"")),
        expect![[
            r#"{"model_name":"rows","model_version":"1","outputs":[{"name":"x_out","datatype":"FP32","shape":[0,2],"parameters":{"binary_data_size":0}}]}"#
        ]],
        Some(b""),
    );
}

#[test]
fn a_body_without_json_is_the_only_input() {
    let raw = floats(&[1.0, 2.0, 3.0, 4.0]);
    let request = |path: &str, raw: &[u8]| Request::post(path, raw).with(JSON_LENGTH, "0");
    check(
        &samples().ask(&request(ROWS, &raw)),
        expect![[
            r#"{"model_name":"rows","model_version":"1","outputs":[{"name":"x_out","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}}]}"#
        ]],
        Some(&raw),
    );
    check(
        &samples().ask(&request(ROWS, b"")),
        expect![[
            r#"{"model_name":"rows","model_version":"1","outputs":[{"name":"x_out","datatype":"FP32","shape":[0,2],"parameters":{"binary_data_size":0}}]}"#
        ]],
        Some(b""),
    );
    check(
        &samples().ask(&request("/v2/models/word/infer", b"427")),
        expect![[
            r#"{"model_name":"word","model_version":"1","outputs":[{"name":"x_out","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":7}}]}"#
        ]],
        Some(b"\x03\0\0\x00427"),
    );
    // Without the header an empty body is JSON that is missing.
    assert_eq!(samples().post(ROWS, "").status, 400);
}

#[test]
fn the_length_is_that_of_the_decompressed_json() {
    let json = format!(r#"{{"inputs":[{{{X},"parameters":{{"binary_data_size":8}}}}]}}"#);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(json.as_bytes()).expect("memory takes it");
    encoder
        .write_all(&floats(&[1.0, 2.0]))
        .expect("memory takes it");
    let body = encoder.finish().expect("memory takes it");
    let request = Request::post(ROWS, body)
        .with(JSON_LENGTH, &json.len().to_string())
        .with("content-encoding", "gzip");
    check(
        &samples().ask(&request),
        expect![[
            r#"{"model_name":"rows","model_version":"1","outputs":[{"name":"x_out","datatype":"FP32","shape":[1,2],"data":[1.0,2.0]}]}"#
        ]],
        None,
    );
}

#[test]
fn a_large_body_in_many_pieces_comes_back_whole() {
    let rows = 50_000;
    let values: Vec<f32> = (0..2 * rows).map(|at| at as f32 / 8.0).collect();
    let raw = floats(&values);
    let json = format!(
        r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[{rows},2],"parameters":{{"binary_data_size":{}}}}}],"parameters":{{"binary_data_output":true}}}}"#,
        raw.len()
    );
    let path = "/v2/models/fp32/infer";
    let whole = samples().ask(&binary(path, &json, &raw));
    assert!(whole.body.ends_with(&raw));
    let mut connection = samples().send(&Request::get("/health/live"));
    assert_eq!(connection.answer().status, 200);
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\n{JSON_LENGTH}: {}\r\ntransfer-encoding: chunked\r\n\r\n",
        json.len()
    );
    connection.write(head.as_bytes());
    for chunk in [json.as_bytes(), &raw].concat().chunks(9_973) {
        connection.write(format!("{:x}\r\n", chunk.len()).as_bytes());
        connection.write(chunk);
        connection.write(b"\r\n");
    }
    connection.write(b"0\r\n\r\n");
    let chunked = connection.answer();
    assert_eq!(chunked.status, 200);
    assert_eq!(chunked.body, whole.body);
}

#[test]
fn predict_answers_in_binary_too_with_the_names_of_the_classes() {
    let json = r#"{"inputs":[{"name":"features","datatype":"FP32","shape":[1,4],"parameters":{"binary_data_size":16}}],"parameters":{"binary_data_output":true},"outputs":[{"name":"label"}]}"#;
    check(
        &bundled().ask(&binary(
            "/predict/iris/1",
            json,
            &floats(&[5.1, 3.5, 1.4, 0.2]),
        )),
        expect![[
            r#"{"model_name":"iris","model_version":"1","outputs":[{"name":"label","datatype":"INT64","shape":[1],"parameters":{"binary_data_size":8}},{"name":"label_name","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":10}}]}"#
        ]],
        Some(b"\0\0\0\0\0\0\0\0\x06\0\0\0setosa"),
    );
}

#[test]
fn a_real_model_classifies() {
    let json = r#"{"inputs":[{"name":"features","datatype":"FP32","shape":[1,4],"data":[5.1,3.5,1.4,0.2]}],"outputs":[{"name":"probabilities","parameters":{"classification":1}},{"name":"label"}]}"#;
    let answer = bundled().post("/v2/models/iris/infer", json).ok();
    let best = answer["outputs"][0]["data"][0].as_str().expect("text");
    assert!(best.ends_with(":0:setosa"), "{best}");
    assert_eq!(answer["outputs"][1]["data"], serde_json::json!([0]));
}

#[test]
fn what_works_is_listed() {
    let extensions = samples().get("/v2").ok()["extensions"].clone();
    for name in ["binary_tensor_data", "classification", "parameters"] {
        let is_listed = extensions
            .as_array()
            .is_some_and(|list| list.contains(&name.into()));
        assert!(is_listed, "{name} is not in {extensions}");
    }
}
