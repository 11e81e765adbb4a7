//! Compressed bodies: what is read, what is refused before it costs anything, and when answers are compressed.

use std::convert::Infallible;
use std::future::ready;
use std::io::{Read, Write};
use std::sync::LazyLock;

use axum::body::Body;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::GzEncoder;
use flate2::{Compress, Compression, FlushCompress};
use http_body_util::BodyExt;
use serde_json::json;
use tower::{ServiceExt, service_fn};

use crate::support::client::{Answer, Connection, Request};
use crate::support::process::Onnxd;
use crate::support::server::{Setup, TestServer};
use crate::support::{eventually, in_repository};

fn server() -> &'static TestServer {
    static SERVER: LazyLock<TestServer> = LazyLock::new(|| {
        Setup::scripted(json!({ "inputs": [["x", "INT64", null]] }))
            .with("inference.queue_rows", "1000000")
            .start_shared()
    });
    &SERVER
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// A frame of Zstandard, written by hand: <https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1>
fn zstd_frame(window_log: u8, blocks: impl Iterator<Item = Block>) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (window_log - 10) << 3];
    for block in blocks {
        let (kind, size, bytes) = match block {
            Block::Raw(bytes) => (0, bytes.len(), bytes),
            Block::Repeated(byte, count) => (1, count, vec![byte]),
        };
        frame.extend(&((size << 3 | kind << 1) as u32).to_le_bytes()[..3]);
        frame.extend(bytes);
    }
    // An empty block, which is the last.
    frame.extend([1, 0, 0]);
    frame
}

enum Block {
    Raw(Vec<u8>),
    Repeated(u8, usize),
}

/// The body as its client sees it.
fn decoded(answer: &Answer) -> Vec<u8> {
    let mut body = Vec::new();
    match answer.header("content-encoding") {
        None => return answer.body.clone(),
        Some("gzip") => GzDecoder::new(&answer.body[..]).read_to_end(&mut body),
        Some("deflate") => ZlibDecoder::new(&answer.body[..]).read_to_end(&mut body),
        Some("zstd") => return zstd_decoded(answer.body.clone()),
        Some(other) => panic!("unknown encoding {other}"),
    }
    .expect("it is whole");
    body
}

fn zstd_decoded(bytes: Vec<u8>) -> Vec<u8> {
    let response = hyper::Response::builder()
        .header("content-encoding", "zstd")
        .body(Body::from(bytes))
        .expect("a valid response");
    let mut response = Some(response);
    let answer = service_fn(move |_: hyper::Request<Body>| {
        ready(Ok::<_, Infallible>(response.take().expect("asked once")))
    });
    let decompression = tower_http::decompression::Decompression::new(answer);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime starts").block_on(async {
        let Ok(response) = decompression
            .oneshot(hyper::Request::new(Body::empty()))
            .await;
        let body = response.into_body().collect().await.expect("it is whole");
        body.to_bytes().to_vec()
    })
}

/// Asks for so many numbers back.
fn numbers(count: usize) -> Request {
    let numbers: Vec<_> = (0..count)
        .map(|number| (number * 7919 % 100_003).to_string())
        .collect();
    Request::post(
        "/predict",
        format!(r#"{{"instances": [{}]}}"#, numbers.join(",")),
    )
}

#[test]
fn large_answers_are_compressed_with_what_the_client_takes() {
    let plain = server().ask(&numbers(50_000));
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(plain.header("vary"), Some("accept-encoding"));
    for (accepted, encoding) in [
        ("gzip, deflate", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0, deflate", "deflate"),
        ("zstd", "zstd"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("*", "zstd"),
    ] {
        let request = numbers(50_000).with("accept-encoding", accepted);
        let answer = server().ask(&request);
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("content-encoding"),
            Some(encoding),
            "{accepted}"
        );
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
        assert!(answer.body.len() * 3 < plain.body.len() * 2, "{accepted}");
        assert_eq!(decoded(&answer), plain.body, "{accepted}");
    }
}

#[test]
fn an_encoding_that_is_not_asked_for_is_not_used() {
    for accepted in ["identity", "br", "gzip;q=0", "", "br;q=1, *;q=0"] {
        let request = numbers(50_000).with("accept-encoding", accepted);
        let answer = server().ask(&request);
        assert_eq!(answer.header("content-encoding"), None, "{accepted}");
        assert_eq!(answer.status, 200, "{accepted}");
    }
}

#[test]
fn small_answers_are_sent_as_they_are() {
    let request = numbers(5).with("accept-encoding", "gzip");
    let answer = server().ask(&request);
    assert_eq!(answer.header("content-encoding"), None);
    assert_eq!(answer.header("vary"), None);
    assert_eq!(answer.ok()["predictions"].as_array().map(Vec::len), Some(5));
}

#[test]
fn metrics_are_compressed() {
    let answer = server().ask(&Request::get("/metrics").with("accept-encoding", "gzip"));
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(decoded(&answer).starts_with(b"# HELP "));
}

#[test]
fn a_head_request_is_answered_without_a_body() {
    let head = Request::new("HEAD", "/metrics").with("accept-encoding", "gzip");
    let mut connection = server().send(&head);
    assert_eq!(connection.answer().status, 200);
    connection.send(&Request::get("/health/live"));
    assert_eq!(connection.answer().status, 200);
}

#[test]
fn zstd_is_read() {
    let text = br#"{"instances": [1, 2]}"#.to_vec();
    let frame = zstd_frame(
        17,
        [Block::Raw(text), Block::Repeated(b' ', 1000)].into_iter(),
    );
    let request = Request::post("/predict", frame.clone()).with("content-encoding", "zstd");
    assert_eq!(server().ask(&request).ok()["predictions"], json!([1, 2]));
    let request = Request::post("/predict", &frame[..frame.len() - 5]);
    server()
        .ask(&request.with("content-encoding", "zstd"))
        .is_error(400, "the body could not be read or decompressed");
}

/// As much as can be: a byte of gzip stands for no more than 1032, four of Zstandard for 128 KiB.
#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    const MIB: usize = 1 << 20;
    let mut deflate = Compress::new(Compression::best(), false);
    let mut block = Vec::with_capacity(MIB);
    let spaces = vec![b' '; MIB];
    let flushed = deflate.compress_vec(&spaces, &mut block, FlushCompress::Full);
    flushed.expect("memory takes it");
    let mut gzip_bomb = gzip(b"")[..10].to_vec();
    while gzip_bomb.len() < MIB {
        gzip_bomb.extend(&block);
    }
    let four_gib = || (0..32 << 10).map(|_| Block::Repeated(b' ', 128 << 10));
    let model = std::fs::read(in_repository("models/iris/1/model.onnx"));
    let daemon = Onnxd::new(["serve"])
        .with("ONNXD_LIMITS__BODY_BYTES", "8MiB")
        .file(
            "models/iris/1/model.onnx",
            model.expect("the bundled model"),
        )
        .serve();
    let ask = |request: &Request| {
        let mut connection = Connection::open(daemon.address).expect("the server accepts");
        connection.send(request);
        connection.answer()
    };
    eventually("it is ready", || {
        ask(&Request::get("/health/ready")).status == 200
    });
    let before = daemon.resident_bytes();
    for (encoding, bomb) in [
        ("gzip", gzip_bomb),
        ("zstd", zstd_frame(17, four_gib())),
        // It asks for a window of 128 MiB.
        ("zstd", zstd_frame(27, four_gib())),
    ] {
        assert!(bomb.len() < 2 * MIB);
        let request = Request::post("/predict", bomb).with("content-encoding", encoding);
        let message = "the body is larger than the limit of 8388608 bytes";
        ask(&request).is_error(413, message);
    }
    let grown = daemon.peak_bytes().saturating_sub(before);
    println!("{grown} bytes for bombs");
    assert!(grown < 64 * MIB as u64, "{grown} bytes");
}
