//! Termination: not ready at once, serving on while endpoints are removed, then closed, and nothing is lost.

use onnxd::shutdown::Stop;
use serde_json::json;

use crate::support::client::{Connection, Request};
use crate::support::eventually;
use crate::support::server::{Setup, TestServer};

/// So long that no test comes to its end.
const FOREVER_MS: &str = "86400000";

fn blocking() -> Setup {
    Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]], "on": { "1": "block" } }))
}

fn predict(element: i64) -> Request {
    Request::post("/predict", format!(r#"{{"instances": [{element}]}}"#))
}

fn wait_for_drain(server: &TestServer) {
    eventually("the server is not ready any more", || {
        server.get("/health/ready").status == 503
    });
}

fn wait_for_closed_port(server: &TestServer) {
    eventually("the port is closed", || {
        Connection::open(server.address).is_err()
    });
}

#[test]
fn while_endpoints_are_removed_new_requests_are_served() {
    let server = blocking().with("server.drain_delay_ms", FOREVER_MS).start();
    let mut kept_alive = server.send(&Request::get("/health/live"));
    assert_eq!(kept_alive.answer().header("connection"), None);
    server.stop(Stop::Terminate);
    wait_for_drain(&server);
    server
        .get("/health/ready")
        .is_error(503, "the server is shutting down");
    assert_eq!(
        server.get("/health").json()["error"],
        "the server is shutting down"
    );
    assert_eq!(server.get("/v2/health/ready").status, 503);
    for path in ["/health/live", "/livez", "/v2/health/live", "/metrics"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    let answer = server.ask(&predict(7));
    assert_eq!(answer.ok()["predictions"], json!([7]));
    assert_eq!(answer.header("connection"), Some("close"));
    kept_alive.send(&predict(8));
    let answer = kept_alive.answer();
    assert_eq!(answer.ok()["predictions"], json!([8]));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(
        kept_alive.is_closed(),
        "the client is to come back elsewhere"
    );
}

#[test]
fn a_request_in_flight_is_answered_after_the_port_is_closed() {
    let server = blocking().start();
    let mut running = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    let mut queued = server.send(&predict(5));
    let series = r#"onnxd_queue_rows{model="m",version="1"}"#;
    eventually("the other one waits", || server.metric(series) == Some(1.0));
    server.stop(Stop::Terminate);
    wait_for_closed_port(&server);
    server.gate.open();
    for (connection, element) in [(&mut running, 1), (&mut queued, 5)] {
        let answer = connection.answer();
        assert_eq!(answer.ok()["predictions"], json!([element]));
        assert_eq!(answer.header("connection"), Some("close"));
    }
    server.wait_until_ended();
}

#[test]
fn idle_connections_are_closed() {
    let server = blocking().start();
    let mut silent = Connection::open(server.address).expect("the server accepts");
    let mut kept_alive = server.send(&Request::get("/health/live"));
    assert_eq!(kept_alive.answer().status, 200);
    server.stop(Stop::Terminate);
    assert!(kept_alive.is_closed());
    assert!(silent.is_closed());
    server.wait_until_ended();
}

/// An engine that does not return keeps neither its client nor the process waiting.
#[test]
fn what_is_left_after_the_request_timeout_is_answered_with_an_error() {
    let server = blocking().with("server.request_timeout_ms", "300").start();
    let mut stuck = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    server.stop(Stop::Terminate);
    let answer = stuck.answer();
    assert!(matches!(answer.status, 503 | 504), "{answer:?}");
    answer.error();
    server.wait_until_ended();
}

#[test]
fn a_person_at_a_terminal_does_not_wait_for_the_delay() {
    let server = blocking().with("server.drain_delay_ms", FOREVER_MS).start();
    server.stop(Stop::Interrupt);
    server.wait_until_ended();
}

#[test]
fn a_server_that_still_loads_stops_as_well() {
    let server = Setup::scripted(json!({ "inputs": [], "load": "block" })).start_loading();
    server.gate.wait_for_blocked(1);
    server.stop(Stop::Terminate);
    server.wait_until_ended();
}

#[test]
fn a_client_that_never_finishes_its_request_does_not_keep_the_server() {
    let server = blocking().with("server.request_timeout_ms", "300").start();
    let mut unfinished = Connection::open(server.address).expect("the server accepts");
    unfinished.write(b"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{");
    let mut unfinished_head = Connection::open(server.address).expect("the server accepts");
    unfinished_head.write(b"POST /predict HTTP/1.1\r\nhost:");
    let in_flight = "onnxd_http_requests_in_flight";
    // The request for the metrics is in flight as well.
    eventually("the request has begun", || {
        server.metric(in_flight) == Some(2.0)
    });
    server.stop(Stop::Terminate);
    let answer = unfinished.answer();
    answer.is_error(503, "the server is shutting down");
    assert_eq!(answer.header("retry-after"), Some("1"));
    server.wait_until_ended();
}
