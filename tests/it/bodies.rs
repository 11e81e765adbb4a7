//! What the bodies of requests in flight may take together, whichever port they come by.

use serde_json::json;
use tonic::Code;

use crate::support::client::{Connection, Request};
use crate::support::eventually;
use crate::support::grpc::{Client, check_refused, method};
use crate::support::server::Setup;

/// A request of so many bytes, most of them blank.
fn predict(bytes: usize) -> Request {
    let json = r#"{"instances": [1]}"#;
    Request::post("/predict", format!("{json:bytes$}"))
}

#[test]
fn bodies_that_do_not_fit_together_are_refused_until_others_have_ended() {
    let server = Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]] }))
        .with("limits.body_bytes", "64KiB")
        .with("limits.bodies_in_flight_bytes", "64KiB")
        .start();
    let mut first = Connection::open(server.address).expect("the server accepts");
    first.write(b"POST /predict HTTP/1.1\r\nhost: test\r\ncontent-length: 60000\r\n\r\n");
    first.write(&[b' '; 50_000]);
    eventually("the first body is there", || {
        server.ask(&predict(20_000)).status == 429
    });
    let refused = server.ask(&predict(20_000));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let message = "the bodies of requests in flight may take 65536 bytes together (limits.bodies_in_flight_bytes), and this one does not fit now; try again later";
    refused.is_error(429, message);
    // gRPC counts what a message's length says, which its decoder believes.
    let announced = [&[0][..], &20_000u32.to_be_bytes(), &[0]].concat();
    for name in ["ModelInfer", "ModelStreamInfer"] {
        let ended = Client::of(&server).stall(&method(name), announced.clone());
        check_refused(Err::<(), _>(ended), Code::ResourceExhausted, message);
    }
    assert_eq!(server.ask(&predict(2_000)).status, 200);
    drop(first);
    eventually("the first body is gone", || {
        server.ask(&predict(60_000)).status == 200
    });
}
