//! What the bodies of requests in flight may take together, whichever port they come by.

use serde_json::json;
use tonic::Code;

use crate::support::client::Request;
use crate::support::grpc::{Client, check_refused, method};
use crate::support::server::Setup;

/// A request of so many bytes, most of them blank.
fn predict(element: i64, bytes: usize) -> Request {
    let json = format!(r#"{{"instances": [{element}]}}"#);
    Request::post("/predict", format!("{json:bytes$}"))
}

#[test]
fn bodies_that_do_not_fit_together_are_refused_until_others_have_ended() {
    let server =
        Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]], "on": { "1": "block" } }))
            .with("limits.body_bytes", "64KiB")
            .with("limits.bodies_in_flight_bytes", "64KiB")
            .with("inference.threads", "2")
            .start();
    // A body is there until the model has answered.
    let mut first = server.send(&predict(1, 50_000));
    server.gate.wait_for_blocked(1);
    let refused = server.ask(&predict(2, 20_000));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let message = "the bodies of requests in flight may take 65536 bytes together (limits.bodies_in_flight_bytes), and this one does not fit now; try again later";
    refused.is_error(429, message);
    // gRPC counts what a message's length says, which its decoder believes.
    let announced = [&[0][..], &20_000u32.to_be_bytes(), &[0]].concat();
    for name in ["ModelInfer", "ModelStreamInfer"] {
        let ended = Client::of(&server).stall(&method(name), announced.clone());
        check_refused(Err::<(), _>(ended), Code::ResourceExhausted, message);
    }
    assert_eq!(server.ask(&predict(2, 2_000)).status, 200);
    server.gate.open();
    assert_eq!(first.answer().status, 200);
    assert_eq!(server.ask(&predict(2, 60_000)).status, 200);
}
