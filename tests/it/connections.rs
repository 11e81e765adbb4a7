//! Connections: what they speak, how long they may take, and how many there may be.

use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use onnxd::shutdown::Stop;
use onnxd::telemetry::process;
use serde_json::json;

use crate::support::client::{Answer, Connection, Request};
use crate::support::eventually;
use crate::support::http2::Http2;
use crate::support::process::{Daemon, Onnxd};
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
    client
        .ask(&Request::get("/nowhere"))
        .is_error(404, "unknown path '/nowhere'; /docs shows the routes");
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
fn a_head_that_came_with_the_request_before_it_has_no_more_time() {
    let server = echo().with("server.header_timeout_ms", "300").start();
    let mut slow = Connection::open(server.address).expect("the server accepts");
    let body = r#"{"instances": [1]}"#;
    let length = body.len();
    let request = format!("POST /predict HTTP/1.1\r\nhost: test\r\ncontent-length: {length}");
    slow.write(format!("{request}\r\n\r\n{body}GET /li").as_bytes());
    server.gate.wait_for_blocked(1);
    // A request in flight may take as long as it likes.
    sleep(2 * LONG);
    server.gate.open();
    assert_eq!(slow.answer().status, 200);
    let begun = Instant::now();
    assert!(slow.is_closed());
    assert!(begun.elapsed() < Duration::from_secs(5));
    wait_for_closed(&server, "header_timeout", 1.0);
}

#[test]
fn heads_that_come_together_are_all_answered() {
    let server = echo().with("server.header_timeout_ms", "100").start();
    let mut connection = Connection::open(server.address).expect("the server accepts");
    let get = "GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n";
    connection.write(format!("{get}{get}GET /health/").as_bytes());
    connection.write(b"live HTTP/1.1\r\nhost: test\r\n\r\n");
    for _ in 0..3 {
        assert_eq!(connection.answer().status, 200);
    }
    sleep(LONG);
    connection.write(get.as_bytes());
    assert_eq!(connection.answer().status, 200);
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
fn a_head_that_is_too_large_is_refused() {
    let server = echo().start();
    let many = (0..101).fold(Request::get("/"), |request, index| {
        request.with(&format!("x-{index}"), "1")
    });
    let long = Request::get("/").with("x-long", &"1".repeat(70_000));
    for request in [many, long] {
        let mut connection = server.send(&request);
        assert_eq!(connection.answer().status, 431);
        assert!(connection.is_closed());
    }
    let long = Request::get("/").with("x-long", &"1".repeat(20_000));
    let client = Http2::open(server.address);
    assert_eq!(client.ask(&long).status, 431);
    assert_eq!(client.ask(&Request::get("/health/live")).status, 200);
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
    assert!(first.bytes_to_end() < 10_000_000);
}

#[test]
fn over_http2_the_answer_alone_that_is_not_taken_is_cut_off() {
    let server = echo().with("server.body_timeout_ms", "300").start();
    let client = Http2::open(server.address);
    let left = client.head(&large());
    assert_eq!(left.status(), 200);
    let begun = Instant::now();
    while begun.elapsed() < 4 * LONG {
        assert_eq!(client.ask(&predict(7)).status, 200);
        sleep(Duration::from_millis(10));
    }
    let (bytes, error) = client.rest(left);
    assert!(bytes < 10_000_000, "{bytes} bytes came");
    error.expect_err("the stream was reset");
    assert_eq!(client.ask(&large()).status, 200);
    assert_eq!(closed(&server, "answer_timeout"), 0.0);
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

/// Requests that are answered without their body: a method and a path, and a header.
const ANSWERED_BY_THEIR_HEAD: [(&str, &str, u16); 7] = [
    ("POST /nowhere", "a: b", 404),
    ("POST /predict/nobody", "a: b", 404),
    ("POST /%ff", "a: b", 404),
    ("POST /health", "a: b", 405),
    ("POST /predict", "content-encoding: br", 415),
    ("POST /predict", "x-request-timeout-ms: soon", 400),
    (
        "POST /v2/models/m/infer",
        "inference-header-content-length: x",
        400,
    ),
];

#[test]
fn a_connection_outlives_an_answer_that_comes_before_the_body() {
    let server = echo().start();
    let mut kept = Connection::open(server.address).expect("the server accepts");
    for (line, header, status) in ANSWERED_BY_THEIR_HEAD {
        let head =
            format!("{line} HTTP/1.1\r\nhost: test\r\n{header}\r\ncontent-length: 5\r\n\r\n");
        kept.write(head.as_bytes());
        sleep(Duration::from_millis(5));
        kept.write(b"12345");
        assert_eq!(kept.answer().status, status, "{line} {header}");
        kept.send(&predict(7));
        assert_eq!(kept.answer().status, 200, "after {line} {header}");
    }
}

#[test]
fn an_answer_before_a_body_that_is_too_long_to_wait_for_says_that_the_connection_ends() {
    let server = echo().start();
    for header in [
        "content-length: 1000000",
        "content-length: 5\r\nexpect: 100-continue",
    ] {
        let mut cut = Connection::open(server.address).expect("the server accepts");
        let head = format!("POST /nowhere HTTP/1.1\r\nhost: test\r\n{header}\r\n\r\n");
        cut.write(head.as_bytes());
        let answer = cut.answer();
        assert_eq!(
            (answer.status, answer.header("connection")),
            (404, Some("close"))
        );
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

/// A server process, so that its descriptors are not ours.
fn daemon(limit: &str) -> Daemon {
    let onnxd = Onnxd::new(["serve"]).under_limit(limit);
    onnxd.file("models/README.md", "none yet").serve()
}

fn ask(address: SocketAddr, path: &str) -> Answer {
    let mut connection = Connection::open(address).expect("the server accepts");
    connection.send(&Request::get(path));
    connection.answer()
}

fn is_alive(address: SocketAddr) -> bool {
    let begun = Instant::now();
    let is_alive = ask(address, "/health/live").status == 200;
    is_alive && begun.elapsed() < Duration::from_secs(2)
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_give_way() {
    let files = process::raise_open_files_limit().unwrap_or(u64::MAX);
    // This process has other files, and other tests.
    let count =
        usize::try_from(files.saturating_sub(500)).map_or(10_000, |files| files.min(10_000));
    let count = (count / 2).max(10) * 2;
    let server = daemon("-S -n 1000");
    let before = server.resident_bytes();
    let mut idle: Vec<_> = (0..count)
        .map(|index| {
            let mut connection = Connection::open(server.address).expect("the server accepts");
            if index % 2 == 0 {
                connection.send(&Request::get("/health/live"));
                assert_eq!(connection.answer().status, 200);
            }
            connection
        })
        .collect();
    assert!(is_alive(server.address));
    let each = server.resident_bytes().saturating_sub(before) / count as u64;
    println!("{count} idle connections of {each} bytes each");
    assert!(each < 24 << 10, "{each} bytes for each connection");
    for _ in 0..50 {
        assert!(is_alive(server.address));
    }
    // The youngest are still there.
    let youngest = idle.last_mut().expect("there are many");
    youngest.send(&Request::get("/health/live"));
    assert_eq!(youngest.answer().status, 200);
}

#[test]
fn the_limit_on_open_files_is_raised_as_far_as_it_may_be() {
    let server = daemon("-S -n 48");
    let mut many: Vec<_> = (0..100)
        .map(|_| Connection::open(server.address).expect("the server accepts"))
        .collect();
    assert!(is_alive(server.address));
    for connection in &mut many {
        connection.send(&Request::get("/health/live"));
        assert_eq!(connection.answer().status, 200);
    }
}

#[test]
fn fewer_connections_than_wanted_are_taken_where_files_are_few() {
    let server = daemon("-n 100");
    let many: Vec<_> = (0..120)
        .map(|_| Connection::open(server.address).expect("the system accepts"))
        .collect();
    assert!(is_alive(server.address));
    assert!(server.open_files() <= 100);
    let metrics = ask(server.address, "/metrics");
    let shown = |line: &str| line.strip_prefix("onnxd_connections ")?.parse().ok();
    let shown: Option<usize> = metrics.text().lines().find_map(shown);
    assert!(shown.is_some_and(|open| open <= 50), "{shown:?} are open");
    drop(many);
}

#[test]
fn the_admin_address_has_connections_of_its_own_and_shares_the_descriptors() {
    let onnxd = Onnxd::new(["serve"]).under_limit("-n 100");
    let onnxd = onnxd.with("ONNXD_SERVER__ADMIN_ADDRESS", "127.0.0.1:0");
    let server = onnxd.file("models/README.md", "none yet").serve();
    let admin = server.admin_address.expect("it tells its address");
    let open = || {
        let metrics = ask(admin, "/metrics");
        let shown = |line: &str| line.strip_prefix("onnxd_connections ")?.parse().ok();
        let shown: Option<usize> = metrics.text().lines().find_map(shown);
        shown.expect("it is shown")
    };
    let connect = |address, count| -> Vec<_> {
        let open = |_| Connection::open(address).expect("the system accepts");
        (0..count).map(open).collect()
    };
    let public = connect(server.address, 10);
    eventually("both are counted", || open() == 11);
    let many = (connect(server.address, 60), connect(admin, 15));
    assert!(is_alive(server.address));
    assert!(is_alive(admin));
    let shown = open();
    assert!((11..=50).contains(&shown), "{shown} are open");
    drop((public, many));
}

#[test]
fn idle_connections_give_way_when_there_are_no_more_descriptors() {
    let server = daemon("-n 200");
    let idle: Vec<_> = (0..20)
        .map(|_| {
            let mut connection = Connection::open(server.address).expect("the server accepts");
            connection.send(&Request::get("/health/live"));
            assert_eq!(connection.answer().status, 200);
            connection
        })
        .collect();
    server.limit_open_files(server.open_files());
    assert!(is_alive(server.address));
    server.wait_for_line("cannot accept connections");
    assert!(is_alive(server.address));
    drop(idle);
}
