//! Limits: what is too large is refused with 413 before it costs anything, and unknown encodings with 415.

use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::json;

use crate::support::client::Request;
use crate::support::samples::samples;
use crate::support::server::{Setup, TestServer};

/// Small limits, so that a test need not send much.
fn limited() -> &'static TestServer {
    static SERVER: LazyLock<TestServer> = LazyLock::new(|| {
        Setup::scripted(json!({ "inputs": [["x", "FP32", null]] }))
            .model("rows/1", json!({ "inputs": [["x", "FP32", [null]]] }))
            .with("limits.body_bytes", "2KiB")
            .with("limits.tensor_elements", "8")
            .with("limits.json_depth", "4")
            .with("inference.queue_rows", "5")
            .start_shared()
    });
    &SERVER
}

#[track_caller]
fn check(request: Request, status: u16, message: &str) {
    limited().ask(&request).is_error(status, message);
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

fn zlib(text: &str) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

const TOO_LARGE: &str = "the body is larger than the limit of 2048 bytes";

#[test]
fn a_body_over_the_limit_is_refused() {
    let padded = |length: usize| format!("{:<length$}", r#"{"instances": [1]}"#);
    for path in ["/predict/m", "/v2/models/m/infer"] {
        check(Request::post(path, padded(2049)), 413, TOO_LARGE);
    }
    assert_eq!(limited().post("/predict/m", padded(2048)).status, 200);
}

#[test]
fn a_body_that_does_not_say_its_length_is_held_to_the_limit_too() {
    let mut connection = limited().send(&Request::get("/health/live"));
    assert_eq!(connection.answer().status, 200);
    connection
        .write(b"POST /predict/m HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = " ".repeat(2049);
    connection.write(format!("801\r\n{chunk}\r\n0\r\n\r\n").as_bytes());
    connection.answer().is_error(413, TOO_LARGE);
}

#[test]
fn a_body_that_grows_past_the_limit_is_refused() {
    let bomb = format!("{}{}", r#"{"instances": [1]}"#, " ".repeat(1_000_000));
    for (encoding, body) in [("gzip", gzip(&bomb)), ("deflate", zlib(&bomb))] {
        assert!(body.len() < 2048, "the bomb itself is within the limit");
        let request = Request::post("/predict/m", body).with("content-encoding", encoding);
        check(request, 413, TOO_LARGE);
    }
}

#[test]
fn compressed_bodies_are_read() {
    let text = r#"{"instances": [1]}"#;
    for (encoding, body) in [
        ("gzip", gzip(text)),
        ("deflate", zlib(text)),
        ("identity", text.into()),
    ] {
        let request = Request::post("/predict/m", body).with("content-encoding", encoding);
        let answer = limited().ask(&request).ok();
        assert_eq!(answer["predictions"], json!([1.0]), "{encoding}");
    }
}

#[test]
fn a_body_that_does_not_decompress_is_a_bad_request() {
    let mut truncated = gzip(r#"{"instances": [1]}"#);
    truncated.truncate(truncated.len() / 2);
    for body in [b"not gzip".to_vec(), truncated] {
        let request = Request::post("/predict/m", body).with("content-encoding", "gzip");
        check(request, 400, "the body could not be read or decompressed");
    }
}

#[test]
fn encodings_have_no_case() {
    for encoding in ["GZIP", "Gzip"] {
        let request = Request::post("/predict/m", gzip(r#"{"instances": [1]}"#));
        let answer = limited().ask(&request.with("content-encoding", encoding));
        assert_eq!(answer.ok()["predictions"], json!([1.0]), "{encoding}");
    }
}

#[test]
fn two_encodings_at_once_are_none_of_the_known_ones() {
    let request = Request::post("/predict/m", gzip(r#"{"instances": [1]}"#))
        .with("content-encoding", "gzip")
        .with("content-encoding", "gzip");
    check(
        request,
        415,
        "unknown Content-Encoding; valid ones are gzip, deflate, zstd and identity",
    );
}

#[test]
fn the_limit_of_a_small_request_is_told() {
    let index = |bytes| Request::post("/v2/repository/index", vec![b' '; bytes]);
    check(index(2049), 413, TOO_LARGE);
    let server = samples();
    assert_eq!(server.ask(&index(2 << 20)).status, 200);
    let message = "the body is larger than the limit of 2097152 bytes";
    server.ask(&index((2 << 20) + 1)).is_error(413, message);
}

#[test]
fn an_unknown_encoding_is_told_the_known_ones() {
    for encoding in ["br", "x-unknown"] {
        let request = Request::post("/predict/m", "{}").with("content-encoding", encoding);
        check(
            request,
            415,
            "unknown Content-Encoding; valid ones are gzip, deflate, zstd and identity",
        );
    }
}

#[test]
fn more_elements_than_the_limit_are_refused_in_every_style() {
    let too_many = "input 'x' has more than 8 elements";
    let nine = "1,2,3,4,5,6,7,8,9";
    let x = r#""name": "x", "datatype": "FP32""#;
    for body in [
        format!(r#"{{"instances": [{nine}]}}"#),
        format!(r#"{{"inputs": {{"x": [{nine}]}}}}"#),
        format!(r#"{{"inputs": [{{{x}, "shape": [9], "data": [{nine}]}}]}}"#),
        format!(r#"{{"inputs": [{{"data": [{nine}], {x}, "shape": [9]}}]}}"#),
    ] {
        check(Request::post("/predict/m", body), 413, too_many);
    }
    let body = format!(r#"{{"inputs": [{{{x}, "shape": [3,3], "data": []}}]}}"#);
    check(
        Request::post("/predict/m", body),
        413,
        "input 'x': shape [3,3] has more than 8 elements",
    );
    let body = format!(r#"{{"inputs": [{{{x}, "shape": [4294967296,4294967296], "data": []}}]}}"#);
    check(
        Request::post("/predict/m", body),
        413,
        "input 'x': shape [4294967296,4294967296] has more elements than can be addressed",
    );
    assert_eq!(
        limited()
            .post("/predict/m", r#"{"inputs": [1,2,3,4,5,6,7,8]}"#)
            .status,
        200
    );
}

#[test]
fn nesting_deeper_than_the_limit_is_refused() {
    let too_deep = "input 'x' is nested deeper than the limit of 4 lists";
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let x = r#""name": "x", "datatype": "FP32", "shape": [1]"#;
    for depth in [5, 300] {
        for body in [
            format!(r#"{{"instances": {}}}"#, nested(depth)),
            format!(r#"{{"inputs": {}}}"#, nested(depth)),
            format!(r#"{{"inputs": {{"x": {}}}}}"#, nested(depth)),
            format!(r#"{{"inputs": [{{{x}, "data": {}}}]}}"#, nested(depth)),
            format!(r#"{{"inputs": [{{"data": {}, {x}}}]}}"#, nested(depth)),
        ] {
            check(Request::post("/predict/m", body), 413, too_deep);
        }
    }
    assert_eq!(
        limited()
            .post("/predict/m", format!(r#"{{"inputs": {}}}"#, nested(4)))
            .status,
        200
    );
}

#[test]
fn more_rows_than_the_queue_can_ever_hold_are_refused_at_any_time() {
    let message =
        "the request has 6 rows and the model's queue holds at most 5; send fewer at once";
    let six = || Request::post("/predict/rows", r#"{"instances": [1,2,3,4,5,6]}"#);
    check(six(), 413, message);
    // Once the model is known to be quick, requests take another way.
    for _ in 0..40 {
        assert_eq!(
            limited()
                .post("/predict/rows", r#"{"instances": [1,2,3,4,5]}"#)
                .status,
            200
        );
    }
    check(six(), 413, message);
}
