//! Inference: every data type, in its field and raw, and what comes back with an answer.

use std::collections::HashMap;

use onnxd::grpc::inference::infer_parameter::ParameterChoice;
use onnxd::grpc::inference::model_infer_request::InferRequestedOutputTensor;
use onnxd::grpc::inference::{InferTensorContents, ModelInferRequest};
use serde_json::json;

use crate::support::grpc::{Client, numbers, parameter, raw_request, request};
use crate::support::server::{Setup, bundled};

/// An answer of model `m` to elements in their field and raw, which must be alike.
#[track_caller]
fn check(datatype: &str, contents: InferTensorContents, raw: &[u8]) {
    let server = Setup::scripted(json!({ "inputs": [["x", datatype, [null]]] })).start();
    let client = Client::of(&server);
    for request in [
        request(datatype, 3, contents),
        raw_request(datatype, 3, raw.to_vec()),
    ] {
        let answer = client.infer(request).expect(datatype);
        let [output] = answer.outputs.as_slice() else {
            panic!("expected one output, got {:?}", answer.outputs);
        };
        let described = (output.name.as_str(), output.datatype.as_str());
        assert_eq!(described, ("x_out", datatype));
        assert_eq!(output.shape, [3], "{datatype}");
        assert_eq!(output.contents, None, "{datatype}");
        assert_eq!(answer.raw_output_contents, [raw], "{datatype}");
    }
}

macro_rules! contents {
    ($field:ident: $values:expr) => {
        InferTensorContents {
            $field: $values.into_iter().map(Into::into).collect(),
            ..InferTensorContents::default()
        }
    };
}

#[test]
fn every_data_type_comes_in_its_field_or_raw() {
    check(
        "BOOL",
        contents!(bool_contents: [true, false, true]),
        &[1, 0, 1],
    );
    check(
        "INT8",
        contents!(int_contents: [1, -128, 127]),
        &[1, 128, 127],
    );
    check(
        "UINT8",
        contents!(uint_contents: [1u32, 0, 255]),
        &[1, 0, 255],
    );
    let little = |values: [i16; 3]| values.map(i16::to_le_bytes).concat();
    let values = [1, i16::MIN, i16::MAX];
    check("INT16", contents!(int_contents: values), &little(values));
    let values = [1, 0, u16::MAX];
    let raw = values.map(u16::to_le_bytes).concat();
    check("UINT16", contents!(uint_contents: values), &raw);
    let values = [1, i32::MIN, i32::MAX];
    let raw = values.map(i32::to_le_bytes).concat();
    check("INT32", contents!(int_contents: values), &raw);
    let values = [1, 0, u32::MAX];
    let raw = values.map(u32::to_le_bytes).concat();
    check("UINT32", contents!(uint_contents: values), &raw);
    let values = [7, i64::MIN, i64::MAX];
    let raw = values.map(i64::to_le_bytes).concat();
    check("INT64", contents!(int64_contents: values), &raw);
    let values = [1, 0, u64::MAX];
    let raw = values.map(u64::to_le_bytes).concat();
    check("UINT64", contents!(uint64_contents: values), &raw);
    let values = [0.5, -0.0, f32::NEG_INFINITY];
    let raw = values.map(f32::to_le_bytes).concat();
    check("FP32", contents!(fp32_contents: values), &raw);
    let values = [0.5, -0.0, f64::MIN_POSITIVE];
    let raw = values.map(f64::to_le_bytes).concat();
    check("FP64", contents!(fp64_contents: values), &raw);
    let values = [&b"a"[..], b"", &[0xff, 0]];
    let raw = [&[1, 0, 0, 0][..], b"a", &[0; 4], &[2, 0, 0, 0, 0xff, 0]].concat();
    check("BYTES", contents!(bytes_contents: values), &raw);
}

#[test]
fn halves_come_raw() {
    for datatype in ["FP16", "BF16"] {
        let server = Setup::scripted(json!({ "inputs": [["x", datatype, [null]]] })).start();
        let raw = vec![0, 60, 0, 188, 1, 0];
        let answer = Client::of(&server).infer(raw_request(datatype, 3, raw.clone()));
        assert_eq!(answer.expect(datatype).raw_output_contents, [raw]);
    }
}

#[test]
fn nothing_may_be_sent_for_a_tensor_without_elements() {
    let server = Setup::scripted(json!({ "inputs": [["x", "FP32", [null]]] })).start();
    let client = Client::of(&server);
    let none = InferTensorContents::default;
    for request in [request("FP32", 0, none()), raw_request("FP32", 0, "")] {
        let answer = client.infer(request).expect("it is a tensor");
        assert_eq!(answer.outputs[0].shape, [0]);
        assert_eq!(answer.raw_output_contents, [""]);
    }
}

/// Numbers by their bytes, as they come back.
fn raw(numbers: &[i64]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

#[test]
fn an_answer_says_which_request_and_which_version_it_is_of() {
    let inputs = json!({ "inputs": [["x", "INT64", [null]]] });
    let server = Setup::empty()
        .model("m/1", inputs.clone())
        .model("m/12", inputs)
        .file("m/model.toml", "versions = \"all\"")
        .start();
    let client = Client::of(&server);
    for (version, answered) in [("", "12"), ("1", "1"), ("12", "12")] {
        let answer = client.infer(ModelInferRequest {
            id: format!("number {version}"),
            model_version: version.to_owned(),
            ..numbers(&[8])
        });
        let answer = answer.expect("there is that version");
        assert_eq!(answer.id, format!("number {version}"));
        let model = (answer.model_name.as_str(), answer.model_version.as_str());
        assert_eq!(model, ("m", answered));
        assert_eq!(answer.raw_output_contents, [raw(&[8])]);
    }
}

#[test]
fn outputs_come_in_the_order_in_which_they_are_asked_for() {
    let output = |name: &str, classes: Option<i64>| {
        let classes = classes.map(|classes| {
            let classes = parameter(ParameterChoice::Int64Param(classes));
            ("classification".to_owned(), classes)
        });
        InferRequestedOutputTensor {
            name: name.to_owned(),
            parameters: HashMap::from_iter(classes),
        }
    };
    let raw: Vec<u8> = [5.1f32, 3.5, 1.4, 0.2].map(f32::to_le_bytes).concat();
    let mut request = raw_request("FP32", 0, raw);
    request.model_name = "iris".to_owned();
    request.inputs[0].name = "features".to_owned();
    request.inputs[0].shape = vec![1, 4];
    request.outputs = vec![output("probabilities", Some(1)), output("label", None)];
    let answer = Client::of(bundled()).infer(request).expect("a flower");
    let names: Vec<_> = answer.outputs.iter().map(|output| &output.name).collect();
    assert_eq!(names, ["probabilities", "label"]);
    assert_eq!(answer.outputs[0].datatype, "BYTES");
    let best = String::from_utf8_lossy(&answer.raw_output_contents[0][4..]).into_owned();
    assert!(best.ends_with(":0:setosa"), "{best}");
}

#[test]
fn priority_and_timeout_come_signed_or_unsigned_and_other_parameters_pass() {
    let server = Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]] })).start();
    let client = Client::of(&server);
    for value in [
        ParameterChoice::Int64Param(30_000_000),
        ParameterChoice::Uint64Param(30_000_000),
    ] {
        let mut request = numbers(&[8]);
        for name in ["priority", "timeout"] {
            let value = parameter(value.clone());
            request.parameters.insert(name.to_owned(), value);
        }
        for (name, value) in [
            ("binary_data_output", ParameterChoice::BoolParam(true)),
            ("anything", ParameterChoice::DoubleParam(0.5)),
        ] {
            request.parameters.insert(name.to_owned(), parameter(value));
        }
        let answer = client.infer(request).expect("it is a request");
        assert_eq!(answer.raw_output_contents, [raw(&[8])]);
    }
}
