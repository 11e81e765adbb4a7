//! One table of requests, answers and errors for every face that takes the Open Inference Protocol: a face that
//! answers differently fails.
//!
//! A face is one [`Face`]; adding it to [`faces`] runs the whole table over it.

mod cases;
mod grpc;
mod rest;

use std::sync::LazyLock;

use onnxd::error::ErrorKind;
use onnxd::tensor::dtype::DataType;
use onnxd::tensor::shape::Shape;
use onnxd::tensor::value::{Element, NamedTensor, Tensor};
use serde_json::json;

use crate::support::server::{Setup, TestServer};

/// Every way to ask.
fn faces() -> Vec<Box<dyn Face>> {
    use grpc::Grpc;
    use rest::{Form, Rest};
    vec![
        Box::new(Rest(Form::Json)),
        Box::new(Rest(Form::Binary)),
        Box::new(Rest(Form::Mixed)),
        Box::new(Rest(Form::Predict)),
        Box::new(Grpc(grpc::Form::Typed)),
        Box::new(Grpc(grpc::Form::Raw)),
    ]
}

/// A way to send a request.
pub trait Face {
    fn name(&self) -> String;

    /// Sends the request and reads the answer, or the code and the message of an error.
    fn infer(&self, server: &TestServer, request: &Request) -> Result<Answer, (i64, String)>;

    /// The code that this face has for an error.
    fn code(&self, kind: ErrorKind) -> i64;
}

/// A request in no protocol's words.
#[derive(Debug, Clone)]
pub struct Request {
    pub model: &'static str,
    pub version: &'static str,
    pub id: &'static str,
    pub inputs: Vec<Input>,
    pub outputs: Vec<Output>,
    pub parameters: Vec<(&'static str, Parameter)>,
}

/// An input as it is stated; the statement may be wrong.
#[derive(Debug, Clone)]
pub struct Input {
    pub name: &'static str,
    pub datatype: &'static str,
    pub shape: Vec<i64>,
    pub data: Tensor,
}

/// An output that is asked for.
#[derive(Debug, Clone)]
pub struct Output {
    pub name: &'static str,
    pub parameters: Vec<(&'static str, Parameter)>,
}

#[derive(Debug, Clone, Copy)]
pub enum Parameter {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Text(&'static str),
}

/// What every face answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub model_name: String,
    pub model_version: String,
    /// Empty where there is none.
    pub id: String,
    pub outputs: Vec<NamedTensor>,
}

/// What is expected of a case.
#[derive(Debug, Clone)]
pub enum Expected {
    Outputs(Vec<NamedTensor>),
    /// What kind of error, and what its message says among other things.
    Error(ErrorKind, &'static str),
}

pub struct Case {
    pub name: String,
    pub request: Request,
    pub expected: Expected,
}

impl Request {
    pub fn to(model: &'static str, inputs: Vec<Input>) -> Request {
        Request {
            model,
            version: "",
            id: "",
            inputs,
            outputs: Vec::new(),
            parameters: Vec::new(),
        }
    }

    pub fn with(mut self, name: &'static str, value: Parameter) -> Request {
        self.parameters.push((name, value));
        self
    }

    pub fn wanting(mut self, names: &[&'static str]) -> Request {
        let output = |&name: &&'static str| Output {
            name,
            parameters: Vec::new(),
        };
        self.outputs.extend(names.iter().map(output));
        self
    }

    pub fn classified(mut self, name: &'static str, classes: Parameter) -> Request {
        let parameters = vec![("classification", classes)];
        self.outputs.push(Output { name, parameters });
        self
    }
}

/// An input that states what it is.
pub fn input(name: &'static str, data: Tensor) -> Input {
    let dims = data.shape().dims().iter();
    Input {
        name,
        datatype: data.dtype().name(),
        shape: dims.map(|&dim| dim as i64).collect(),
        data,
    }
}

pub fn tensor<T: Element>(dims: &[usize], elements: &[T]) -> Tensor {
    Tensor::from_vec(shape(dims), elements.to_vec()).expect("the count fits")
}

pub fn strings(dims: &[usize], elements: &[&[u8]]) -> Tensor {
    Tensor::from_strings(shape(dims), elements).expect("the count fits")
}

pub fn shape(dims: &[usize]) -> Shape {
    Shape::new(dims.to_vec()).expect("a small shape")
}

/// Models that echo, by the names of their cases' needs.
fn server() -> &'static TestServer {
    static SERVER: LazyLock<TestServer> = LazyLock::new(start);
    &SERVER
}

fn start() -> TestServer {
    let mut setup = Setup::empty()
        .model("rows/1", json!({ "inputs": [["x", "FP32", [null, 2]]] }))
        .model("two/1", json!({ "inputs": [["x", "FP32", [null, 2]]] }))
        .model("two/2", json!({ "inputs": [["x", "FP32", [null, 2]]] }))
        .file("two/model.toml", "versions = \"all\"")
        .model(
            "pair/1",
            json!({ "inputs": [["a", "FP32", ["n", 2]], ["b", "INT64", ["n"]]] }),
        )
        .model("picture/1", json!({ "inputs": [["x", "UINT8", [null, null, null, 3]]] }))
        .model("fixed/1", json!({ "inputs": [["x", "FP32", [1, 4]]] }))
        .model("scores/1", json!({ "inputs": [["x", "FP32", [null, 3]]] }))
        .file("scores/model.toml", "labels = { output = \"x_out\", file = \"labels.txt\" }")
        .file("scores/labels.txt", "setosa\nversicolor\nvirginica\n")
        .model(
            "columns/1",
            json!({ "inputs": [["x", "FP64", [null, 2], ["no", "yes"]]] }),
        )
        .model(
            "moody/1",
            json!({ "inputs": [["x", "INT64", [null]]], "on": { "1": "block", "2": "panic", "3": "fail" } }),
        )
        .with("limits.tensor_elements", "64")
        .with("inference.queue_rows", "8");
    for dtype in DataType::ALL {
        let version = format!("{}/1", dtype.name().to_lowercase());
        setup = setup.model(&version, json!({ "inputs": [["x", dtype.name(), null]] }));
    }
    setup.start_shared()
}

/// Whether two answers say the same; NaN is NaN, whatever its bits.
fn is_same(got: &[NamedTensor], expected: &[NamedTensor]) -> bool {
    let bytes = |tensor: &Tensor| match tensor.dtype() {
        DataType::Fp32 => {
            let values = tensor.elements::<f32>();
            let canonical = |value: &f32| if value.is_nan() { f32::NAN } else { *value };
            bytemuck::cast_slice(&values.iter().map(canonical).collect::<Vec<_>>()).to_vec()
        }
        _ => tensor.data().to_vec(),
    };
    let all = |tensors: &[NamedTensor]| -> Vec<_> {
        tensors
            .iter()
            .map(|NamedTensor { name, tensor }| {
                (
                    name.clone(),
                    tensor.dtype(),
                    tensor.shape().clone(),
                    bytes(tensor),
                )
            })
            .collect()
    };
    all(got) == all(expected)
}

#[test]
fn every_face_answers_alike() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for Case {
        name,
        request,
        expected,
    } in cases::cases()
    {
        for face in faces() {
            count += 1;
            let got = face.infer(server(), &request);
            let is_right = match (&expected, &got) {
                (Expected::Outputs(outputs), Ok(answer)) => {
                    let Answer {
                        model_name,
                        model_version,
                        id,
                        outputs: got,
                    } = answer;
                    let version = match request.version {
                        "" => "1",
                        version => version,
                    };
                    is_same(got, outputs)
                        && model_name == request.model
                        && model_version == version
                        && id == request.id
                }
                (Expected::Error(kind, says), Err((code, message))) => {
                    *code == face.code(*kind) && message.contains(says)
                }
                _ => false,
            };
            if !is_right {
                wrong.push(format!(
                    "{} over {}:\n  expected {expected:?}\n  got {got:?}",
                    name,
                    face.name()
                ));
            }
        }
    }
    assert!(count > 200, "only {count} cases were run");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
