//! What is wrong with a request, by code and message.

use std::sync::LazyLock;

use onnxd::grpc::inference::infer_parameter::ParameterChoice;
use onnxd::grpc::inference::{InferTensorContents, ModelInferRequest};
use serde_json::json;
use tonic::Code;

use crate::support::grpc::{Client, check_refused, numbers, parameter, raw_request, request};
use crate::support::server::{Setup, TestServer};

fn server() -> &'static TestServer {
    static SERVER: LazyLock<TestServer> = LazyLock::new(|| {
        let model = |datatype| json!({ "inputs": [["x", datatype, [null]]] });
        Setup::scripted(json!({
            "inputs": [["x", "INT64", [null]]],
            "on": { "2": "panic", "3": "fail" },
        }))
        .model("bytes/1", model("UINT8"))
        .model("half/1", model("FP16"))
        .model("broken/1", json!({ "load": "fail" }))
        .with("repository.require_all", "false")
        .with("limits.tensor_elements", "8")
        .start_shared()
    });
    &SERVER
}

#[track_caller]
fn check(request: ModelInferRequest, code: Code, message: &str) {
    check_refused(Client::of(server()).infer(request), code, message);
}

#[track_caller]
fn check_invalid(request: ModelInferRequest, message: &str) {
    check(request, Code::InvalidArgument, message);
}

fn to(model: &str, request: ModelInferRequest) -> ModelInferRequest {
    let model_name = model.to_owned();
    ModelInferRequest {
        model_name,
        ..request
    }
}

#[test]
fn an_unknown_model_or_version_is_not_found() {
    check(
        to("n", numbers(&[1])),
        Code::NotFound,
        "unknown model 'n'; the models are 'broken', 'bytes', 'half', 'm'",
    );
    let version = ModelInferRequest {
        model_version: "9".to_owned(),
        ..numbers(&[1])
    };
    let message = "model 'm' has no version '9'; the versions served are '1'";
    check(version, Code::NotFound, message);
}

#[test]
fn what_the_model_does_not_take_is_refused() {
    let mut other = numbers(&[8]);
    other.inputs[0].name = "y".to_owned();
    check_invalid(other, "unknown input 'y'; the model's inputs are 'x'");
    let mut none = numbers(&[8]);
    none.inputs.clear();
    check_invalid(none, "input 'x' is missing; the model's inputs are 'x'");
    let mut float = numbers(&[8]);
    float.inputs[0].datatype = "FP32".to_owned();
    check_invalid(float, "input 'x': expected datatype INT64, got FP32");
    let mut negative = numbers(&[8]);
    negative.inputs[0].shape = vec![-1];
    check_invalid(
        negative,
        "input 'x': a shape has no negative dimensions, got [-1]",
    );
    let mut flat = numbers(&[8]);
    flat.inputs[0].shape = vec![1, 1];
    check_invalid(flat, "input 'x': expected shape [-1], got [1,1]");
    let nine = numbers(&[8; 9]);
    check(
        nine,
        Code::ResourceExhausted,
        "input 'x': shape [9] has more than 8 elements",
    );
}

#[test]
fn typed_elements_must_be_as_described() {
    let mut few = numbers(&[8]);
    few.inputs[0].shape = vec![3];
    check_invalid(
        few,
        "input 'x': shape [3] needs 3 elements, int64_contents has 1",
    );
    let floats = InferTensorContents {
        fp32_contents: vec![1.0],
        ..InferTensorContents::default()
    };
    check_invalid(
        request("INT64", 1, floats.clone()),
        "input 'x': expected int64_contents for INT64, got fp32_contents",
    );
    check_invalid(
        to("half", request("FP16", 1, floats)),
        "input 'x': FP16 has no field in 'contents'; send it in raw_input_contents",
    );
    let wide = InferTensorContents {
        uint_contents: vec![255, 256],
        ..InferTensorContents::default()
    };
    check_invalid(
        to("bytes", request("UINT8", 2, wide)),
        "input 'x': uint_contents[1] is 256, which is no UINT8",
    );
}

#[test]
fn raw_elements_come_for_all_inputs_and_alone() {
    let mut both = numbers(&[8]);
    both.raw_input_contents = vec![vec![8; 8].into()];
    check_invalid(
        both,
        "input 'x': 'contents' beside raw_input_contents; expected one of them for all inputs",
    );
    let mut more = raw_request("INT64", 1, vec![8; 8]);
    more.raw_input_contents.push("".into());
    check_invalid(
        more,
        "raw_input_contents: expected one for each input, in their order: 1 of them, got 2",
    );
    check_invalid(
        raw_request("INT64", 2, vec![8; 15]),
        "input 'x': expected 16 bytes for INT64 of shape [2], got 15",
    );
}

#[test]
fn a_parameter_of_the_wrong_kind_is_refused() {
    let mut late = numbers(&[8]);
    let text = parameter(ParameterChoice::StringParam("soon".to_owned()));
    late.parameters.insert("timeout".to_owned(), text);
    check_invalid(
        late,
        "parameter 'timeout': expected a whole number of microseconds, got 'soon'",
    );
    let mut shared = numbers(&[8]);
    let region = parameter(ParameterChoice::StringParam("r".to_owned()));
    let parameters = &mut shared.inputs[0].parameters;
    parameters.insert("shared_memory_region".to_owned(), region);
    check_invalid(
        shared,
        "parameter 'shared_memory_region': shared memory is not supported; send the tensor in the request",
    );
}

#[test]
fn a_model_that_does_not_load_is_unavailable() {
    let status = Client::of(server()).infer(to("broken", numbers(&[1])));
    let status = status.expect_err("it is not served");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let retry = status.metadata().get("grpc-retry-pushback-ms");
    assert_eq!(retry.map(|after| after.as_bytes()), Some(&b"30000"[..]));
}

#[test]
fn the_cause_of_a_failed_run_stays_in_the_log() {
    let message =
        "the model failed while running; the server's log has the cause under this request id";
    for number in [2, 3] {
        check(numbers(&[number]), Code::Internal, message);
    }
}
