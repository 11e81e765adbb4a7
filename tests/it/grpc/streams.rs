//! Many inferences over one stream.

use onnxd::grpc::inference::{ModelInferRequest, ModelStreamInferResponse};
use serde_json::json;
use tonic::Code;

use crate::support::eventually;
use crate::support::grpc::{Client, Stream, method, numbers};
use crate::support::server::{Setup, TestServer};

type Inferences<'c> = Stream<'c, ModelInferRequest, ModelStreamInferResponse>;

fn server() -> TestServer {
    Setup::scripted(json!({
        "inputs": [["x", "INT64", [null]]],
        "on": { "1": "block", "2": "panic", "3": "fail" },
    }))
    .start()
}

fn stream(client: &Client) -> Inferences<'_> {
    client.stream(&method("ModelStreamInfer"))
}

fn send(stream: &Inferences<'_>, number: i64) {
    stream.send(ModelInferRequest {
        id: number.to_string(),
        ..numbers(&[number])
    });
}

/// The id that the next answer has, and what is wrong with its request.
#[track_caller]
fn next(stream: &mut Inferences<'_>) -> (String, String) {
    let answer = stream.next().expect("the stream goes on");
    let ModelStreamInferResponse {
        error_message,
        infer_response,
    } = answer.expect("the stream goes on");
    (infer_response.unwrap_or_default().id, error_message)
}

#[test]
fn each_request_has_one_answer_in_order() {
    let server = server();
    let client = Client::of(&server);
    let mut stream = stream(&client);
    for number in [1, 10, 11, 12] {
        send(&stream, number);
    }
    server.gate.wait_for_blocked(1);
    server.gate.open();
    for number in [1, 10, 11, 12] {
        assert_eq!(next(&mut stream), (number.to_string(), String::new()));
    }
    // More than are worked on at once.
    for number in 20..60 {
        send(&stream, number);
    }
    stream.finish();
    for number in 20..60 {
        assert_eq!(next(&mut stream), (number.to_string(), String::new()));
    }
    assert_eq!(stream.next().expect("it ends well"), None);
}

#[test]
fn a_request_that_fails_does_not_end_the_stream() {
    let server = server();
    let client = Client::of(&server);
    let mut stream = stream(&client);
    let failed =
        "the model failed while running; the server's log has the cause under this request id";
    for number in [2, 3] {
        send(&stream, number);
        assert_eq!(next(&mut stream), (number.to_string(), failed.to_owned()));
    }
    stream.send(ModelInferRequest {
        model_name: "n".to_owned(),
        ..numbers(&[7])
    });
    assert_eq!(next(&mut stream).1, "unknown model 'n'; the models are 'm'");
    send(&stream, 7);
    assert_eq!(next(&mut stream), ("7".to_owned(), String::new()));
}

#[test]
fn a_stream_that_is_dropped_cancels_what_waits() {
    let server = server();
    let client = Client::of(&server);
    let stream = stream(&client);
    send(&stream, 1);
    server.gate.wait_for_blocked(1);
    for number in [10, 11] {
        send(&stream, number);
    }
    let waiting = r#"onnxd_queue_rows{model="m",version="1"}"#;
    eventually("two wait", || server.metric(waiting) == Some(2.0));
    drop(stream);
    let canceled = r#"onnxd_inference_requests_total{model="m",outcome="canceled",version="1"}"#;
    eventually("all are canceled", || server.metric(canceled) == Some(3.0));
    server.gate.open();
    let answer = client.infer(numbers(&[12]));
    answer.expect("the worker is free again");
    assert_eq!(server.gate.ran().last(), Some(&12));
    assert!(!server.gate.ran().contains(&10), "nobody wants it");
}

#[test]
fn what_is_no_request_ends_the_stream() {
    let server = server();
    let client = Client::of(&server);
    // A name that is no text.
    let mut stream =
        client.stream::<Vec<u8>, ModelStreamInferResponse>(&method("ModelStreamInfer"));
    stream.send(vec![0xff]);
    let status = stream.next().expect_err("it cannot be read");
    assert_eq!(status.code(), Code::Internal, "{status:?}");
}

/// A stream may stay open for as long as its client likes; what it asked has had its answer.
#[test]
fn an_open_stream_does_not_keep_a_model_from_being_unloaded() {
    let server = Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]] }))
        .with("repository.mode", "explicit")
        .start();
    let client = Client::of(&server);
    let mut stream = stream(&client);
    send(&stream, 7);
    assert_eq!(next(&mut stream), ("7".to_owned(), String::new()));
    server.post("/v2/repository/models/m/unload", "{}").ok();
    eventually("the model is gone", || {
        let index = server.post("/v2/repository/index", "{}").ok();
        index[0]["state"] == "UNAVAILABLE"
    });
    send(&stream, 8);
    let message = next(&mut stream).1;
    assert!(message.contains("was unloaded"), "{message}");
}
