//! Ids, traces and counts around a call, and what a port says to those who do not speak gRPC.

use onnxd::grpc::inference::{ModelInferResponse, ServerLiveRequest, ServerLiveResponse};
use serde_json::json;
use tonic::{Request, Response};

use crate::support::client::{self, Connection};
use crate::support::eventually;
use crate::support::grpc::{Client, method, numbers};
use crate::support::server::Setup;

fn header<'a, A>(answer: &'a Response<A>, name: &str) -> Option<&'a str> {
    answer.metadata().get(name)?.to_str().ok()
}

#[test]
fn an_answer_carries_an_id_its_times_and_the_trace() {
    let server = Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]] })).start();
    let client = Client::of(&server);
    let mut request = Request::new(numbers(&[7]));
    for (name, value) in [
        ("x-request-id", "mine"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ] {
        let value = value.parse().expect("it is text");
        request.metadata_mut().insert(name, value);
    }
    let answer = client.call::<_, ModelInferResponse>(&method("ModelInfer"), request);
    let answer = answer.expect("an answer");
    assert_eq!(header(&answer, "x-request-id"), Some("mine"));
    let times = header(&answer, "server-timing").expect("it is there");
    assert!(
        times.starts_with("queue;dur=") && times.contains("total;dur="),
        "{times}"
    );
    let trace = header(&answer, "traceparent").expect("it goes on");
    assert!(
        trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
        "{trace}"
    );
    assert!(!trace.contains("b7ad6b7169203331"), "{trace}");
    let other = client
        .call::<_, ServerLiveResponse>(&method("ServerLive"), Request::new(ServerLiveRequest {}));
    let made = header(&other.expect("an answer"), "x-request-id").map(str::len);
    assert_eq!(made, Some(32));
}

#[test]
fn a_failed_call_carries_an_id_too() {
    let server = Setup::scripted(json!({ "inputs": [] })).start();
    let request = onnxd::grpc::inference::ModelInferRequest {
        model_name: "n".to_owned(),
        ..Default::default()
    };
    let status = Client::of(&server)
        .infer(request)
        .expect_err("it is unknown");
    assert!(status.metadata().contains_key("x-request-id"), "{status:?}");
}

#[test]
fn calls_are_counted_by_method_and_code() {
    let server = Setup::scripted(json!({
        "inputs": [["x", "INT64", [null]]],
        "on": { "1": "block", "3": "fail" },
    }))
    .start();
    let count = |code: &str| {
        let series = format!(
            r#"onnxd_grpc_requests_total{{code="{code}",method="inference.GRPCInferenceService/ModelInfer"}}"#
        );
        server.metric(&series)
    };
    let client = Client::of(&server);
    client.infer(numbers(&[7])).expect("an answer");
    client.infer(numbers(&[3])).expect_err("it fails");
    eventually("each is counted once", || {
        (count("OK"), count("INTERNAL")) == (Some(1.0), Some(1.0))
    });
    // A client that gives up.
    let mut request = Request::new(numbers(&[1]));
    request.set_timeout(std::time::Duration::from_secs(20));
    std::thread::scope(|scope| {
        let leaving = Client::of(&server);
        let call = scope.spawn(move || leaving.leave(&method("ModelInfer"), request));
        server.gate.wait_for_blocked(1);
        call.join().expect("the client does not panic");
    });
    eventually("it is canceled", || count("CANCELLED") == Some(1.0));
}

#[test]
fn who_speaks_http_is_told_that_this_is_grpc() {
    let server = Setup::scripted(json!({ "inputs": [] })).start();
    let address = server.grpc_address.expect("gRPC is on");
    let mut connection = Connection::open(address).expect("the server accepts");
    connection.send(&client::Request::get("/v2"));
    let answer = connection.answer();
    assert_eq!(answer.status, 415);
    assert!(
        answer.text().contains("this port speaks gRPC"),
        "{answer:?}"
    );
    assert!(answer.header("x-request-id").is_some(), "{answer:?}");
    assert!(answer.header("server-timing").is_some(), "{answer:?}");
    let counted = r#"onnxd_grpc_requests_total{code="UNKNOWN",method="unknown"}"#;
    eventually("it is counted", || server.metric(counted) == Some(1.0));
}

#[test]
fn grpc_can_be_off() {
    let server = Setup::scripted(json!({ "inputs": [] }))
        .with("server.grpc_port", "off")
        .start();
    assert_eq!(server.grpc_address, None);
}
