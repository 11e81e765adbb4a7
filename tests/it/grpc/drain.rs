//! Termination with calls in flight: what can be finished is, and nothing keeps the server.

use onnxd::grpc::inference::{
    ModelInferRequest, ModelStreamInferResponse, ServerReadyRequest, ServerReadyResponse,
};
use onnxd::shutdown::Stop;
use serde_json::json;
use tonic::Code;

use crate::support::eventually;
use crate::support::grpc::{Client, Stream, check_refused, method, numbers};
use crate::support::server::{Setup, TestServer};

const GOING: &str = "the server is shutting down";

fn blocking() -> Setup {
    Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]], "on": { "1": "block" } }))
}

fn stream(client: &Client) -> Stream<'_, ModelInferRequest, ModelStreamInferResponse> {
    client.stream(&method("ModelStreamInfer"))
}

fn wait_for_closed_port(server: &TestServer) {
    let address = server.grpc_address.expect("gRPC is on");
    eventually("the port is closed", || Client::try_open(address).is_err());
}

#[test]
fn while_endpoints_are_removed_calls_are_served() {
    let server = blocking().with("server.drain_delay_ms", "86400000").start();
    let client = Client::of(&server);
    server.stop(Stop::Terminate);
    eventually("the server is not ready any more", || {
        let ready = client.ask("ServerReady", ServerReadyRequest {});
        let ready: ServerReadyResponse = ready.expect("it is answered");
        !ready.ready
    });
    client.infer(numbers(&[7])).expect("it is served as before");
    let fresh = Client::of(&server);
    fresh.infer(numbers(&[7])).expect("it is served as before");
}

#[test]
fn a_call_in_flight_is_answered_after_the_port_is_closed() {
    let server = blocking().start();
    let client = Client::of(&server);
    std::thread::scope(|scope| {
        let call = scope.spawn(|| client.infer(numbers(&[1])));
        server.gate.wait_for_blocked(1);
        server.stop(Stop::Terminate);
        wait_for_closed_port(&server);
        server.gate.open();
        let answer = call.join().expect("the client does not panic");
        answer.expect("it was in flight");
    });
    server.wait_until_ended();
}

#[test]
fn an_open_stream_does_not_keep_the_server() {
    let server = blocking().start();
    let client = Client::of(&server);
    let mut idle = stream(&client);
    let mut busy = stream(&client);
    busy.send(numbers(&[1]));
    server.gate.wait_for_blocked(1);
    server.stop(Stop::Terminate);
    check_refused(idle.next(), Code::Unavailable, GOING);
    server.gate.open();
    let answer = busy.next().expect("it was in flight");
    let answer = answer.expect("it was in flight");
    assert_eq!(answer.error_message, "");
    check_refused(busy.next(), Code::Unavailable, GOING);
    server.wait_until_ended();
}

/// An engine that does not return keeps neither its client nor the process waiting.
#[test]
fn what_is_left_after_the_request_timeout_ends_with_a_status() {
    let server = blocking().with("server.request_timeout_ms", "300").start();
    let client = Client::of(&server);
    let mut stuck = stream(&client);
    stuck.send(numbers(&[1]));
    server.gate.wait_for_blocked(1);
    server.stop(Stop::Terminate);
    let ends = std::iter::from_fn(|| match stuck.next() {
        // The request's own deadline may come first.
        Ok(answer) => Some(answer.expect("it does not end well").error_message),
        Err(status) => {
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
            None
        }
    });
    assert!(ends.count() <= 1);
    server.wait_until_ended();
}
