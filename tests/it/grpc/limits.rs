//! What is too large, too late or too much, and what is compressed.

use std::time::Duration;

use onnxd::grpc::inference::infer_parameter::ParameterChoice;
use onnxd::grpc::inference::{
    ModelInferRequest, ModelInferResponse, ModelReadyRequest, ModelReadyResponse,
    ModelStreamInferResponse,
};
use serde_json::json;
use tonic::codec::CompressionEncoding::{Deflate, Gzip, Zstd};
use tonic::{Code, Request, Status};

use crate::support::eventually;
use crate::support::grpc::{Client, check_refused, method, numbers, parameter, raw_request};
use crate::support::server::{Setup, TestServer};

/// A model of bytes, however many.
fn bytes() -> Setup {
    Setup::scripted(json!({ "inputs": [["x", "UINT8", [1, null]]] }))
}

fn limited() -> TestServer {
    bytes().with("limits.body_bytes", "2KiB").start()
}

fn zeros(count: usize) -> ModelInferRequest {
    let mut request = raw_request("UINT8", count, vec![0; count]);
    request.inputs[0].shape.insert(0, 1);
    request
}

#[test]
fn a_message_over_the_limit_is_refused() {
    let server = limited();
    let client = Client::of(&server);
    client.infer(zeros(1900)).expect("it is within the limit");
    let status = client.infer(zeros(2100)).expect_err("it is over the limit");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert!(status.message().contains("2048 bytes"), "{status:?}");
}

#[test]
fn a_message_that_grows_over_the_limit_is_refused() {
    let server = limited();
    for encoding in [Gzip, Deflate, Zstd] {
        let client = Client::of(&server).compressing(encoding);
        let answer = client.infer(zeros(1900)).expect("it is within the limit");
        assert_eq!(answer.raw_output_contents[0].len(), 1900);
        let status = client.infer(zeros(1 << 20)).expect_err("it grows");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    }
}

#[test]
fn the_limit_is_that_of_http_bodies() {
    let server = bytes().start();
    // More than tonic takes by itself, and enough to be worked on aside.
    for client in [Client::of(&server), Client::of(&server).compressing(Gzip)] {
        let answer = client
            .infer(zeros(6 << 20))
            .expect("it is within the limit");
        assert_eq!(answer.raw_output_contents[0].len(), 6 << 20);
    }
}

/// Such a message takes two bytes a field to send, and hundreds to hold.
#[test]
fn a_message_of_empty_fields_is_refused_before_it_is_read() {
    let server = bytes().start();
    let mut inputs = zeros(1);
    inputs.inputs = vec![Default::default(); 40_000];
    let mut outputs = zeros(1);
    outputs.outputs = vec![Default::default(); 40_000];
    let mut raw = zeros(1);
    raw.raw_input_contents = vec![Default::default(); 40_000];
    let mut shape = zeros(1);
    shape.inputs[0].shape = vec![1; 40_000];
    for request in [inputs, outputs, raw, shape] {
        for client in [Client::of(&server), Client::of(&server).compressing(Gzip)] {
            check_refused(
                client.infer(request.clone()),
                Code::ResourceExhausted,
                "a message has more than 32768 fields; many elements come in raw_input_contents",
            );
        }
    }
}

#[test]
fn a_method_without_tensors_takes_small_messages_only() {
    let server = bytes().start();
    let client = Client::of(&server);
    let ready = |name_bytes| {
        let request = ModelReadyRequest {
            name: "m".repeat(name_bytes),
            version: String::new(),
        };
        client.ask::<_, ModelReadyResponse>("ModelReady", request)
    };
    assert!(!ready(200 << 10).expect("it is within the limit").ready);
    let status = ready(300 << 10).expect_err("it is over the limit");
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
}

#[test]
fn an_answer_is_compressed_as_its_request_was() {
    let server = bytes().start();
    let encoding = |client: &Client, request: Request<ModelInferRequest>| {
        let answer = client.call::<_, ModelInferResponse>(&method("ModelInfer"), request);
        let answer = answer.expect("an answer");
        let encoding = answer.metadata().get("grpc-encoding");
        encoding.map(|name| name.to_str().expect("a name").to_owned())
    };
    for (compression, name) in [(Gzip, "gzip"), (Deflate, "deflate"), (Zstd, "zstd")] {
        let client = Client::of(&server).compressing(compression);
        let answered = encoding(&client, Request::new(zeros(100)));
        assert_eq!(answered.as_deref(), Some(name));
    }
    // As every client of gRPC's own library does.
    let mut able = Request::new(zeros(100));
    let reads = "identity, deflate, gzip".parse().expect("it is text");
    able.metadata_mut().insert("grpc-accept-encoding", reads);
    assert_eq!(encoding(&Client::of(&server), able), None);
}

#[test]
fn what_is_no_message_is_an_internal_error_of_its_own() {
    let server = limited();
    let client = Client::of(&server);
    // A name that is no text.
    let answer = client.ask::<Vec<u8>, ModelInferResponse>("ModelInfer", vec![0xff]);
    let status = answer.expect_err("it cannot be read");
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    client.infer(zeros(1)).expect("the connection is as it was");
}

fn blocking() -> Setup {
    Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]], "on": { "1": "block" } }))
}

fn infer_within(client: &Client, timeout: &str) -> Result<ModelInferResponse, Status> {
    let mut request = Request::new(numbers(&[1]));
    let timeout = timeout.parse().expect("it is text");
    request.metadata_mut().insert("grpc-timeout", timeout);
    let answer = client.call(&method("ModelInfer"), request);
    answer.map(tonic::Response::into_inner)
}

fn expired(server: &TestServer) -> Option<f64> {
    server.metric(r#"onnxd_inference_requests_total{model="m",outcome="expired",version="1"}"#)
}

#[test]
fn the_tightest_deadline_holds() {
    let server = blocking().start();
    let client = Client::of(&server);
    let late = |answer: Result<ModelInferResponse, Status>| {
        let status = answer.expect_err("it takes too long");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    };
    late(infer_within(&client, "50m"));
    let mut request = numbers(&[1]);
    let micros = parameter(ParameterChoice::Uint64Param(50_000));
    request.parameters.insert("timeout".to_owned(), micros);
    late(client.infer(request));
    eventually("both are counted", || expired(&server) == Some(2.0));
    let own = blocking().with("server.request_timeout_ms", "50").start();
    late(Client::of(&own).infer(numbers(&[1])));
    eventually("it is counted", || expired(&own) == Some(1.0));
}

#[test]
fn a_malformed_timeout_is_refused() {
    let server = blocking().start();
    check_refused(
        infer_within(&Client::of(&server), "soon"),
        Code::InvalidArgument,
        "grpc-timeout: expected at most 8 digits and a unit of H, M, S, m, u or n, got 'soon'",
    );
}

#[test]
fn a_stream_ends_at_its_deadline() {
    let server = blocking().start();
    let client = Client::of(&server);
    let mut first = Request::new(vec![numbers(&[1])]);
    first.set_timeout(Duration::from_millis(50));
    let mut stream =
        client.stream_of::<_, ModelStreamInferResponse>(&method("ModelStreamInfer"), first);
    let answer = stream.next().expect("the request has its answer first");
    let message = answer
        .expect("the request has its answer first")
        .error_message;
    assert!(message.contains("deadline"), "{message}");
    let status = stream.next().expect_err("the stream does not end well");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}

#[test]
fn more_than_the_queue_holds_is_told_to_come_back() {
    let server = blocking().with("inference.queue_rows", "1").start();
    let clients = [(); 2].map(|()| Client::of(&server));
    let waiting = r#"onnxd_queue_rows{model="m",version="1"}"#;
    std::thread::scope(|scope| {
        let [running, queued] = &clients;
        scope.spawn(|| {
            running
                .infer(numbers(&[1]))
                .expect("it is answered in the end")
        });
        server.gate.wait_for_blocked(1);
        scope.spawn(|| {
            queued
                .infer(numbers(&[8]))
                .expect("it is answered in the end")
        });
        eventually("one waits", || server.metric(waiting) == Some(1.0));
        let status = Client::of(&server).infer(numbers(&[9]));
        let status = status.expect_err("there is no room");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        let pushback = status.metadata().get("grpc-retry-pushback-ms");
        let pushback = pushback.and_then(|after| after.to_str().ok()?.parse().ok());
        assert!(pushback >= Some(1000), "{status:?}");
        server.gate.open();
    });
}

#[test]
fn a_message_must_come_whole_in_time_and_a_stream_may_be_silent_between_two() {
    let server = bytes().with("server.body_timeout_ms", "300").start();
    let client = Client::of(&server);
    let mut silent =
        client.stream::<ModelInferRequest, ModelStreamInferResponse>(&method("ModelStreamInfer"));
    let mut ask = || {
        silent.send(zeros(1));
        let answer = silent.next().expect("the stream goes on");
        assert_eq!(answer.expect("the stream goes on").error_message, "");
    };
    ask();
    // Of a message of a hundred bytes.
    let half = vec![0, 0, 0, 0, 100, 0x0a, 98];
    for name in ["ModelInfer", "ModelStreamInfer"] {
        check_refused(
            Err::<(), _>(client.stall(&method(name), half.clone())),
            Code::DeadlineExceeded,
            "a message did not come whole within 300 ms",
        );
    }
    ask();
}
