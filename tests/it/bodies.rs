//! What requests in flight may take of the memory together, whichever port they come by.

use serde_json::json;
use tonic::Code;

use crate::support::client::{Connection, Request};
use crate::support::eventually;
use crate::support::grpc::{Client, check_refused, method};
use crate::support::server::{Setup, TestServer};

const MOST: usize = 256 << 10;
/// Metrics show what is held in steps of so many bytes.
const STEP: f64 = 4096.0;

/// One row of so many elements, of 8 bytes each once it is read.
fn predict(element: i64, elements: usize) -> Request {
    let row = vec![element; elements];
    Request::post("/predict", json!({ "instances": [row] }).to_string())
}

fn server(on: serde_json::Value) -> TestServer {
    Setup::scripted(json!({ "inputs": [["x", "INT64", [null, null]]], "on": on }))
        .with("limits.body_bytes", "128KiB")
        .with("limits.bodies_in_flight_bytes", &MOST.to_string())
        .with("inference.threads", "2")
        .start()
}

fn held(server: &TestServer) -> f64 {
    let held = server.metric("onnxd_bodies_in_flight_bytes");
    held.expect("the metric is there")
}

#[track_caller]
fn check_full(connection: &mut Connection) {
    let answer = connection.answer();
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("1"));
    let message = answer.error();
    let most = format!("of {MOST} bytes of memory (limits.bodies_in_flight_bytes)");
    assert!(
        message.starts_with("the requests in flight take ")
            && message.contains(&most)
            && message.ends_with(" do not fit now; try again later"),
        "{message}"
    );
}

#[test]
fn what_does_not_fit_together_is_refused_until_others_have_ended() {
    let server = server(json!({ "1": "block" }));
    // Its inputs are there until the model has answered.
    let mut first = server.send(&predict(1, 12_000));
    server.gate.wait_for_blocked(1);
    assert_eq!(held(&server), 24.0 * STEP);
    check_full(&mut server.send(&predict(2, 10_000)));
    // gRPC counts what a message's length says, which its decoder believes.
    let announced = [&[0][..], &100_000u32.to_be_bytes(), &[0]].concat();
    let second = server.send(&predict(1, 8_500));
    server.gate.wait_for_blocked(2);
    for name in ["ModelInfer", "ModelStreamInfer"] {
        let ended = Client::of(&server).stall(&method(name), announced.clone());
        let message = "the requests in flight take 167936 of 262144 bytes of memory (limits.bodies_in_flight_bytes), and 100000 more for this one do not fit now; try again later";
        check_refused(Err::<(), _>(ended), Code::ResourceExhausted, message);
    }
    drop(second);
    server.gate.open();
    // Its outputs are as large, and five times as much with their text.
    let refused = first.answer();
    assert_eq!(refused.status, 413, "{}", refused.text());
    assert_eq!(server.ask(&predict(2, 4_000)).status, 200);
    eventually("nothing is held", || held(&server) == 0.0);
}

#[test]
fn what_never_fits_is_told_so() {
    let server = server(json!({}));
    let answer = server.ask(&predict(2, 8_000));
    assert_eq!(answer.status, 413, "{}", answer.text());
    let message = answer.error();
    assert!(
        message.contains("takes 384000 bytes of memory with its answer")
            && message.contains("may take 262144 (limits.bodies_in_flight_bytes)"),
        "{message}"
    );
}
