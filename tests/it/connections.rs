//! Connections: what they speak, how long they may take, and how many there may be.

use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use onnxd::shutdown::Stop;
use serde_json::json;

use crate::support::client::{Connection, Request};
use crate::support::eventually;
use crate::support::http2::Http2;
use crate::support::server::{Setup, TestServer};

/// Longer than any limit here that is to be run into.
const LONG: Duration = Duration::from_millis(250);

fn echo() -> Setup {
    Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]], "on": { "1": "block" } }))
        .with("inference.queue_rows", "10000000")
}

fn predict(element: i64) -> Request {
    Request::post("/predict", format!(r#"{{"instances": [{element}]}}"#))
}

/// A request whose answer fills every buffer on the way.
fn large() -> Request {
    let numbers = vec!["1234567"; 2_000_000].join(",");
    Request::post("/predict", format!(r#"{{"instances": [{numbers}]}}"#))
}

fn closed(server: &TestServer, limit: &str) -> f64 {
    let series = format!(r#"onnxd_connections_closed_total{{limit="{limit}"}}"#);
    server.metric(&series).expect("every limit is shown")
}

#[track_caller]
fn wait_for_closed(server: &TestServer, limit: &str, count: f64) {
    eventually("it is counted", || closed(server, limit) == count);
}

#[test]
fn http2_is_spoken_to_clients_that_begin_with_it() {
    let server = echo().start();
    let client = Http2::open(server.address);
    assert_eq!(client.ask(&Request::get("/health/live")).status, 200);
    let answers: Vec<_> = (2..60)
        .map(|element| client.send(&predict(element)))
        .collect();
    for (element, answer) in (2..60).zip(answers) {
        let answer = client.wait(answer).expect("it is answered");
        assert_eq!(answer.ok()["predictions"], json!([element]));
    }
    client.ask(&Request::get("/nowhere")).is_error(
        404,
        "unknown path '/nowhere'; the routes are /predict, /health, /metrics and /v2",
    );
    let answer = client.ask(&large());
    let rows = answer.ok()["predictions"].as_array().map(Vec::len);
    assert_eq!(rows, Some(2_000_000));
}

#[test]
fn a_slow_head_is_cut_off() {
    let server = echo().with("server.header_timeout_ms", "100").start();
    let mut slow = Connection::open(server.address).expect("the server accepts");
    let begun = Instant::now();
    for byte in b"POST /predict HTTP/1.1\r\n".chunks(1).cycle() {
        if slow.try_write(byte).is_err() || begun.elapsed() > Duration::from_secs(5) {
            break;
        }
        sleep(Duration::from_millis(10));
    }
    assert!(slow.is_closed());
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(closed(&server, "header_timeout"), 1.0);
    assert_eq!(server.ask(&predict(7)).status, 200);
}

#[test]
fn the_time_for_a_head_begins_with_its_first_byte() {
    let server = echo().with("server.header_timeout_ms", "100").start();
    let mut fresh = Connection::open(server.address).expect("the server accepts");
    let second = Http2::open(server.address);
    sleep(LONG);
    fresh.send(&predict(7));
    assert_eq!(fresh.answer().status, 200);
    assert_eq!(second.ask(&predict(7)).status, 200);
    sleep(LONG);
    fresh.send(&predict(8));
    assert_eq!(fresh.answer().status, 200);
    assert_eq!(second.ask(&predict(8)).status, 200);
    assert_eq!(closed(&server, "header_timeout"), 0.0);
}

#[test]
fn a_slow_body_is_answered_with_an_error_and_the_connection_closed() {
    let server = echo().with("server.body_timeout_ms", "100").start();
    let mut slow = Connection::open(server.address).expect("the server accepts");
    slow.write(b"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n");
    let begun = Instant::now();
    while begun.elapsed() < LONG {
        // It may be closed already.
        let _ = slow.try_write(b" ");
        sleep(Duration::from_millis(10));
    }
    let answer = slow.answer();
    answer.is_error(408, "the body did not come whole within 100 ms");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(slow.is_closed());
    assert_eq!(server.ask(&predict(7)).status, 200);
}

#[test]
fn a_connection_without_a_request_is_closed_in_the_end() {
    let server = echo().with("server.idle_timeout_ms", "200").start();
    let mut silent = Connection::open(server.address).expect("the server accepts");
    let mut kept_alive = server.send(&predict(7));
    assert_eq!(kept_alive.answer().status, 200);
    let second = Http2::open(server.address);
    assert_eq!(second.ask(&predict(7)).status, 200);
    assert!(silent.is_closed());
    assert!(kept_alive.is_closed());
    second.wait_until_closed();
    wait_for_closed(&server, "idle_timeout", 3.0);
}

#[test]
fn a_connection_with_a_request_is_not_idle() {
    let server = echo()
        .with("server.idle_timeout_ms", "100")
        .with("server.header_timeout_ms", "100")
        .with("server.body_timeout_ms", "100")
        .start();
    let mut first = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    let second = Http2::open(server.address);
    let coming = second.send(&predict(1));
    sleep(LONG);
    server.gate.open();
    assert_eq!(first.answer().status, 200);
    assert_eq!(second.wait(coming).expect("it is answered").status, 200);
}

#[test]
fn a_client_that_does_not_take_its_answer_is_cut_off() {
    let server = echo().with("server.body_timeout_ms", "300").start();
    let mut first = server.send(&large());
    wait_for_closed(&server, "answer_timeout", 1.0);
    let second = Http2::open(server.address);
    let head = second.head(&large());
    assert_eq!(head.status(), 200);
    wait_for_closed(&server, "answer_timeout", 2.0);
    assert!(first.bytes_to_end() < 10_000_000);
    second.wait_until_closed();
}

#[test]
fn a_large_upload_that_is_refused_still_reads_why() {
    let server = echo().with("limits.body_bytes", "2KiB").start();
    let body = vec![b' '; 30 << 20];
    for _ in 0..3 {
        let mut naive = Connection::open(server.address).expect("the server accepts");
        // Writes all before it reads, as most clients do.
        naive.send(&Request::post("/predict", body.clone()));
        naive
            .answer()
            .is_error(413, "the body is larger than the limit of 2048 bytes");
    }
}

#[test]
fn those_without_a_request_for_the_longest_time_make_room() {
    let server = echo().with("server.max_connections", "3").start();
    let mut busy = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    let mut oldest = Connection::open(server.address).expect("the server accepts");
    let health = Request::get("/health/live");
    let mut used = server.send(&health);
    assert_eq!(used.answer().status, 200);
    // One more than there is room for.
    let mut newest = server.send(&health);
    assert_eq!(newest.answer().status, 200);
    assert!(oldest.is_closed());
    let second = Http2::open(server.address);
    assert_eq!(second.ask(&health).status, 200);
    assert!(used.is_closed());
    server.gate.open();
    assert_eq!(busy.answer().status, 200);
    assert!(closed(&server, "max_connections") >= 2.0);
}

#[test]
fn where_all_are_busy_a_new_connection_waits() {
    let server = echo().with("server.max_connections", "2").start();
    let mut busy = [server.send(&predict(1)), server.send(&predict(1))];
    server.gate.wait_for_blocked(1);
    let mut waiting = server.send(&predict(7)).within(LONG);
    assert!(!waiting.has_more());
    server.gate.open();
    for busy in &mut busy {
        assert_eq!(busy.answer().status, 200);
    }
    assert_eq!(waiting.within(Duration::from_secs(30)).answer().status, 200);
}

#[test]
fn closing_waits_only_a_moment_for_half_a_head() {
    let server = echo().start();
    let mut half = Connection::open(server.address).expect("the server accepts");
    half.write(b"POST /predict HTTP/1.1\r\nhost:");
    let mut preface = Connection::open(server.address).expect("the server accepts");
    preface.write(b"PRI * HTTP/2.0\r\n");
    let second = Http2::open(server.address);
    assert_eq!(second.ask(&predict(7)).status, 200);
    let begun = Instant::now();
    server.stop(Stop::Terminate);
    assert!(half.is_closed());
    assert!(preface.is_closed());
    second.wait_until_closed();
    server.wait_until_ended();
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn requests_over_http2_are_answered_after_the_port_is_closed() {
    let server = echo().start();
    let client = Http2::open(server.address);
    let running = client.send(&predict(1));
    server.gate.wait_for_blocked(1);
    server.stop(Stop::Terminate);
    eventually("the port is closed", || refuses(server.address));
    // Told to go away, the client begins nothing new over this connection.
    eventually("the client knows", || {
        client.wait(client.send(&predict(2))).is_err()
    });
    server.gate.open();
    let answer = client.wait(running).expect("it is answered");
    assert_eq!(answer.ok()["predictions"], json!([1]));
    client.wait_until_closed();
    server.wait_until_ended();
}

fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}
