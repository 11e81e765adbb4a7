//! Overload: what the queue cannot hold is refused at once, what expired or was given up never runs, and health
//! answers whatever goes on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Connection, Request};
use crate::support::engine::SECRET_CAUSE;
use crate::support::eventually;
use crate::support::samples::{moody, predict};
use crate::support::server::TestServer;

fn protocol(element: i64, parameters: &Value) -> Request {
    let x = json!({ "name": "x", "datatype": "INT64", "shape": [1], "data": [element] });
    let body = json!({ "inputs": [x], "parameters": parameters });
    Request::post("/v2/models/m/infer", body.to_string())
}

fn wait_for_queue(server: &TestServer, rows: f64) {
    let series = r#"onnxd_queue_rows{model="m",version="1"}"#;
    eventually(&format!("{rows} rows wait"), || {
        server.metric(series) == Some(rows)
    });
}

/// Queues a request whose client goes away.
fn abandon_queued(server: &TestServer) {
    let abandoned = server.send(&predict(5));
    wait_for_queue(server, 1.0);
    drop(abandoned);
    let canceled = r#"onnxd_inference_requests_total{model="m",outcome="canceled",version="1"}"#;
    eventually("it is given up", || server.metric(canceled) == Some(1.0));
}

const EXPIRED: &str = "the deadline passed before the model answered";
const FAILED: &str =
    "the model failed while running; the server's log has the cause under this request id";

#[test]
fn full_queue_answers_429() {
    let server = moody().with("inference.queue_rows", "3").start();
    let mut accepted = vec![server.send(&predict(1))];
    server.gate.wait_for_blocked(1);
    for element in [4, 5, 6] {
        accepted.push(server.send(&predict(element)));
    }
    wait_for_queue(&server, 3.0);
    for request in [predict(7), protocol(7, &json!({}))] {
        let answer = server.ask(&request);
        answer.is_error(
            429,
            "the model's queue is full: 3 of 3 rows are waiting; try again later",
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    for path in [
        "/health/live",
        "/health/ready",
        "/health",
        "/metrics",
        "/v2/health/ready",
    ] {
        assert_eq!(
            server.get(path).status,
            200,
            "{path} answers under full load"
        );
    }
    server.gate.open();
    for (connection, element) in accepted.iter_mut().zip([1, 4, 5, 6]) {
        assert_eq!(connection.answer().ok()["predictions"], json!([element]));
    }
    let mut ran = server.gate.ran();
    ran.sort_unstable();
    assert_eq!(ran, [1, 4, 5, 6], "what was refused did not run");
}

#[test]
fn where_there_is_no_place_no_body_is_read() {
    let server = moody().with("inference.queue_rows", "1").start();
    let mut running = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    let mut queued = server.send(&predict(4));
    wait_for_queue(&server, 1.0);
    let full = "the model's queue is full: 1 of 1 rows are waiting; try again later";
    // A client that waits for leave to send it need not send it.
    let mut polite = Connection::open(server.address).expect("the server listens");
    polite.write(
        b"POST /predict/m HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 9000000\r\n\r\n",
    );
    let answer = polite.answer();
    answer.is_error(429, full);
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(polite.is_closed());
    // One that sends it at once can use its connection again.
    let mut kept = Connection::open(server.address).expect("the server listens");
    kept.send(&Request::post("/predict/m", "this is no JSON"));
    let answer = kept.answer();
    answer.is_error(429, full);
    assert_eq!(answer.header("connection"), None);
    // What is too long to be thrown away is read as ever.
    let long = Request::post("/predict/m", format!("{}5", " ".repeat(2 << 20)));
    kept.send(&long);
    assert_eq!(kept.answer().status, 400);
    server.gate.open();
    for (connection, element) in [(&mut running, 1), (&mut queued, 4)] {
        assert_eq!(connection.answer().ok()["predictions"], json!([element]));
    }
    kept.send(&predict(5));
    assert_eq!(kept.answer().ok()["predictions"], json!([5]));
    let rejected = r#"onnxd_inference_requests_total{model="m",outcome="rejected",version="1"}"#;
    assert_eq!(server.metric(rejected), Some(2.0));
}

#[test]
fn the_queue_is_bounded_in_rows() {
    let server = moody().with("inference.queue_rows", "3").start();
    let _running = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    let two = Request::post("/predict/m", r#"{"instances": [4, 5]}"#);
    let mut first = server.send(&two);
    wait_for_queue(&server, 2.0);
    let message = "the model's queue is full: 2 of 3 rows are waiting; try again later";
    server.ask(&two).is_error(429, message);
    let mut last = server.send(&predict(6));
    wait_for_queue(&server, 3.0);
    server.gate.open();
    assert_eq!(first.answer().ok()["predictions"], json!([4, 5]));
    assert_eq!(last.answer().ok()["predictions"], json!([6]));
}

#[test]
fn one_models_full_queue_is_not_anothers() {
    let server = moody()
        .model("other/1", json!({ "inputs": [["x", "INT64", [null]]] }))
        .with("inference.queue_rows", "1")
        .with("inference.threads", "2")
        .start();
    let _running = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    let answer = server.post("/predict/other", r#"{"instances": [9]}"#).ok();
    assert_eq!(answer["predictions"], json!([9]));
}

#[test]
fn an_abandoned_request_never_runs() {
    let server = moody().start();
    let mut running = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    abandon_queued(&server);
    server.gate.open();
    assert_eq!(running.answer().status, 200);
    assert_eq!(server.ask(&predict(7)).status, 200);
    assert_eq!(server.gate.ran(), [1, 7]);
}

#[test]
fn abandoned_requests_make_place_for_others() {
    let server = moody().with("inference.queue_rows", "1").start();
    let _running = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    abandon_queued(&server);
    let mut next = server.send(&predict(7));
    server.gate.open();
    assert_eq!(next.answer().ok()["predictions"], json!([7]));
}

#[test]
fn a_deadline_that_passes_in_the_queue_answers_504_and_never_runs() {
    let server = moody().start();
    let mut running = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    let in_a_minute = json!({ "timeout": 60_000_000 });
    for request in [
        predict(5).with("x-request-timeout-ms", "20"),
        protocol(5, &json!({ "timeout": 20_000 })),
        // The tightest wins.
        protocol(5, &in_a_minute).with("x-request-timeout-ms", "20"),
        protocol(5, &json!({ "timeout": 20_000 })).with("x-request-timeout-ms", "60000"),
    ] {
        server.ask(&request).is_error(504, EXPIRED);
    }
    server.gate.open();
    assert_eq!(running.answer().status, 200);
    assert_eq!(server.ask(&protocol(7, &in_a_minute)).status, 200);
    assert_eq!(server.gate.ran(), [1, 7]);
}

#[test]
fn a_deadline_holds_while_the_body_is_read() {
    let server = moody().start();
    let mut stalled = Connection::open(server.address).expect("the server accepts");
    stalled.write(
        b"POST /predict HTTP/1.1\r\nhost: test\r\nx-request-timeout-ms: 20\r\ncontent-length: 100\r\n\r\n{",
    );
    let answer = stalled.answer();
    answer.is_error(504, "the deadline passed before the request was read");
    let expired = r#"onnxd_inference_requests_total{model="m",outcome="expired",version="1"}"#;
    assert_eq!(server.metric(expired), Some(1.0));
}

/// Whether the request's own timer or a worker comes upon it first.
#[test]
fn a_deadline_that_is_over_at_once_answers_504_and_leaves_the_queue_empty() {
    let server = moody().start();
    for _ in 0..100 {
        server
            .ask(&protocol(5, &json!({ "timeout": 1 })))
            .is_error(504, EXPIRED);
    }
    let mut running = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    let short = predict(5).with("x-request-timeout-ms", "20");
    server.ask(&short).is_error(504, EXPIRED);
    server.gate.open();
    assert_eq!(running.answer().status, 200);
    wait_for_queue(&server, 0.0);
    let expired = r#"onnxd_inference_requests_total{model="m",outcome="expired",version="1"}"#;
    assert_eq!(server.metric(expired), Some(101.0));
}

#[test]
fn a_deadline_that_passes_in_the_engine_answers_504() {
    let server = moody().start();
    let answer = server.ask(&predict(1).with("x-request-timeout-ms", "20"));
    answer.is_error(504, EXPIRED);
}

#[test]
fn a_deadline_must_be_a_number_of_milliseconds() {
    let server = moody().start();
    for value in ["0", "-1", "1.5", "soon", ""] {
        let message = format!(
            "header x-request-timeout-ms: expected a whole number of milliseconds of at least 1, got '{value}'"
        );
        server
            .ask(&predict(0).with("x-request-timeout-ms", value))
            .is_error(400, &message);
    }
}

#[test]
fn an_engine_that_panics_costs_one_request() {
    let server = moody().start();
    for element in [0, 2, 4, 2, 2, 5] {
        let answer = server.ask(&predict(element));
        match element {
            2 => answer.is_error(500, FAILED),
            _ => assert_eq!(answer.ok()["predictions"], json!([element])),
        }
    }
    assert_eq!(server.get("/health/ready").status, 200);
}

#[test]
fn a_failure_keeps_its_cause_to_itself() {
    let server = moody().start();
    for request in [predict(3), protocol(3, &json!({}))] {
        let answer = server.ask(&request);
        answer.is_error(500, FAILED);
        assert!(!answer.text().contains(SECRET_CAUSE));
    }
    assert_eq!(server.ask(&predict(4)).status, 200);
}

/// Requests to a model that was quick so far take another way through the server than those to a slow one.
#[test]
fn health_never_waits_behind_a_model_that_is_suddenly_slow() {
    let server = moody().with("inference.threads", "2").start();
    for _ in 0..40 {
        assert_eq!(server.ask(&predict(0)).status, 200);
    }
    let _slow = [server.send(&predict(1)), server.send(&predict(1))];
    server.gate.wait_for_blocked(2);
    let mut live = server
        .send(&Request::get("/health/live"))
        .within(Duration::from_secs(5));
    assert_eq!(live.answer().status, 200);
}
