//! The gRPC face: tensors raw, and in typed fields.

use std::collections::HashMap;

use onnxd::error::ErrorKind;
use onnxd::grpc::inference::infer_parameter::ParameterChoice;
use onnxd::grpc::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use onnxd::grpc::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
};
use onnxd::grpc::status::code;
use onnxd::tensor::dtype::DataType;
use onnxd::tensor::value::{Element, NamedTensor, Tensor};

use super::{Answer, Face, Input, Output, Parameter, Request, shape};
use crate::support::grpc::{Client, parameter};
use crate::support::server::TestServer;

/// How tensors travel to the server; back they always come raw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Raw,
    /// Where every input has a field for its type.
    Typed,
}

pub struct Grpc(pub Form);

impl Face for Grpc {
    fn name(&self) -> String {
        format!("gRPC {:?}", self.0)
    }

    fn infer(&self, server: &TestServer, request: &Request) -> Result<Answer, (i64, String)> {
        match Client::of(server).infer(self.request(request)) {
            Ok(answer) => Ok(read(answer)),
            Err(status) => Err((
                i64::from(i32::from(status.code())),
                status.message().to_owned(),
            )),
        }
    }

    fn code(&self, kind: ErrorKind) -> i64 {
        i64::from(i32::from(code(kind)))
    }
}

impl Grpc {
    fn request(&self, request: &Request) -> ModelInferRequest {
        let Request {
            model,
            version,
            id,
            inputs,
            outputs,
            parameters: of_request,
        } = request;
        let typed: Option<Vec<_>> = match self.0 {
            Form::Raw => None,
            Form::Typed => inputs.iter().map(|input| contents(&input.data)).collect(),
        };
        let raw = inputs.iter().map(|input| input.data.data().clone());
        let raw = if typed.is_some() {
            Vec::new()
        } else {
            raw.collect()
        };
        let mut inputs: Vec<_> = inputs.iter().map(described).collect();
        for (input, contents) in inputs.iter_mut().zip(typed.unwrap_or_default()) {
            input.contents = Some(contents);
        }
        let outputs = outputs.iter().map(|output| {
            let Output {
                name,
                parameters: of_output,
            } = output;
            InferRequestedOutputTensor {
                name: (*name).to_owned(),
                parameters: parameters(of_output),
            }
        });
        ModelInferRequest {
            model_name: (*model).to_owned(),
            model_version: (*version).to_owned(),
            id: (*id).to_owned(),
            parameters: parameters(of_request),
            inputs,
            outputs: outputs.collect(),
            raw_input_contents: raw,
        }
    }
}

fn described(input: &Input) -> InferInputTensor {
    InferInputTensor {
        name: input.name.to_owned(),
        datatype: input.datatype.to_owned(),
        shape: input.shape.clone(),
        ..InferInputTensor::default()
    }
}

fn parameters(parameters: &[(&str, Parameter)]) -> HashMap<String, InferParameter> {
    let value = |value: &Parameter| match *value {
        Parameter::Bool(value) => ParameterChoice::BoolParam(value),
        Parameter::Int(value) => ParameterChoice::Int64Param(value),
        Parameter::Uint(value) => ParameterChoice::Uint64Param(value),
        Parameter::Text(value) => ParameterChoice::StringParam(value.to_owned()),
    };
    let all = parameters.iter();
    all.map(|(name, of)| ((*name).to_owned(), parameter(value(of))))
        .collect()
}

/// The elements in the field for their type, if there is one.
fn contents(tensor: &Tensor) -> Option<InferTensorContents> {
    fn all<T: Element, W: From<T>>(tensor: &Tensor) -> Vec<W> {
        let elements = tensor.elements::<T>();
        elements.iter().map(|&element| element.into()).collect()
    }
    let mut contents = InferTensorContents::default();
    match tensor.dtype() {
        DataType::Bool => {
            contents.bool_contents = tensor.data().iter().map(|&it| it == 1).collect()
        }
        DataType::Int8 => contents.int_contents = all::<i8, _>(tensor),
        DataType::Int16 => contents.int_contents = all::<i16, _>(tensor),
        DataType::Int32 => contents.int_contents = all::<i32, _>(tensor),
        DataType::Int64 => contents.int64_contents = all::<i64, _>(tensor),
        DataType::UInt8 => contents.uint_contents = all::<u8, _>(tensor),
        DataType::UInt16 => contents.uint_contents = all::<u16, _>(tensor),
        DataType::UInt32 => contents.uint_contents = all::<u32, _>(tensor),
        DataType::UInt64 => contents.uint64_contents = all::<u64, _>(tensor),
        DataType::Fp32 => contents.fp32_contents = all::<f32, _>(tensor),
        DataType::Fp64 => contents.fp64_contents = all::<f64, _>(tensor),
        DataType::Bytes => {
            let strings = tensor.strings().map(|string| string.to_vec().into());
            contents.bytes_contents = strings.collect();
        }
        DataType::Fp16 | DataType::Bf16 => return None,
    }
    Some(contents)
}

fn read(answer: ModelInferResponse) -> Answer {
    let ModelInferResponse {
        model_name,
        model_version,
        id,
        parameters,
        outputs,
        raw_output_contents,
    } = answer;
    assert!(parameters.is_empty(), "{parameters:?}");
    assert_eq!(outputs.len(), raw_output_contents.len());
    let outputs = outputs.into_iter().zip(raw_output_contents);
    let outputs = outputs.map(|(output, raw)| {
        assert_eq!(output.contents, None);
        let dtype = DataType::from_name(&output.datatype).expect("a data type");
        let length = |&dim: &i64| usize::try_from(dim).expect("a length");
        let dims: Vec<_> = output.shape.iter().map(length).collect();
        NamedTensor {
            name: output.name,
            tensor: Tensor::new(dtype, shape(&dims), raw).expect("a whole tensor"),
        }
    });
    Answer {
        model_name,
        model_version,
        id,
        outputs: outputs.collect(),
    }
}
