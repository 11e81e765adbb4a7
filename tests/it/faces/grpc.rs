//! The gRPC face: inputs in their typed fields, and raw.

use onnxd::error::ErrorKind;
use onnxd::grpc::inference::infer_parameter::ParameterChoice;
use onnxd::grpc::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use onnxd::grpc::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
};
use onnxd::grpc::status::code;
use onnxd::oip::numbers::Bool;
use onnxd::tensor::dtype::DataType;
use onnxd::tensor::value::{NamedTensor, Tensor};

use super::{Answer, Face, Input, Output, Parameter, Request, shape};
use crate::support::grpc::{Client, parameter};
use crate::support::server::TestServer;

/// How inputs travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// In the field of their type. A type that has none goes raw, and the others of the request with it.
    Typed,
    Raw,
}

pub struct Grpc(pub Form);

impl Face for Grpc {
    fn name(&self) -> String {
        format!("gRPC {:?}", self.0)
    }

    fn infer(&self, server: &TestServer, request: &Request) -> Result<Answer, (i64, String)> {
        match Client::of(server).infer(self.request(request)) {
            Ok(response) => Ok(read(response)),
            Err(status) => Err((status.code() as i64, status.message().to_owned())),
        }
    }

    fn code(&self, kind: ErrorKind) -> i64 {
        code(kind) as i64
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
            parameters,
        } = request.clone();
        let contents: Option<Vec<_>> = inputs.iter().map(|input| contents(&input.data)).collect();
        let contents = contents.filter(|_| self.0 == Form::Typed);
        let raw = match contents {
            Some(_) => Vec::new(),
            None => inputs
                .iter()
                .map(|input| input.data.data().clone())
                .collect(),
        };
        let mut typed = contents.unwrap_or_default().into_iter();
        let input = |input: Input| InferInputTensor {
            name: input.name.to_owned(),
            datatype: input.datatype.to_owned(),
            shape: input.shape,
            contents: typed.next(),
            ..InferInputTensor::default()
        };
        let output = |Output { name, parameters }: Output| InferRequestedOutputTensor {
            name: name.to_owned(),
            parameters: map(&parameters),
        };
        ModelInferRequest {
            model_name: model.to_owned(),
            model_version: version.to_owned(),
            id: id.to_owned(),
            parameters: map(&parameters),
            inputs: inputs.into_iter().map(input).collect(),
            outputs: outputs.into_iter().map(output).collect(),
            raw_input_contents: raw,
        }
    }
}

fn map<M: FromIterator<(String, InferParameter)>>(parameters: &[(&str, Parameter)]) -> M {
    let choice = |value: Parameter| match value {
        Parameter::Bool(value) => ParameterChoice::BoolParam(value),
        Parameter::Int(value) => ParameterChoice::Int64Param(value),
        Parameter::Uint(value) => ParameterChoice::Uint64Param(value),
        Parameter::Text(value) => ParameterChoice::StringParam(value.to_owned()),
    };
    let pairs = parameters.iter();
    pairs
        .map(|&(name, value)| (name.to_owned(), parameter(choice(value))))
        .collect()
}

/// The elements in the field of their type, if there is one.
fn contents(tensor: &Tensor) -> Option<InferTensorContents> {
    macro_rules! field {
        ($field:ident, $element:ty) => {
            InferTensorContents {
                $field: tensor
                    .elements::<$element>()
                    .iter()
                    .map(|&element| element.into())
                    .collect(),
                ..InferTensorContents::default()
            }
        };
    }
    Some(match tensor.dtype() {
        DataType::Bool => InferTensorContents {
            bool_contents: tensor
                .elements::<Bool>()
                .iter()
                .map(|truth| truth.0 == 1)
                .collect(),
            ..InferTensorContents::default()
        },
        DataType::UInt8 => field!(uint_contents, u8),
        DataType::UInt16 => field!(uint_contents, u16),
        DataType::UInt32 => field!(uint_contents, u32),
        DataType::UInt64 => field!(uint64_contents, u64),
        DataType::Int8 => field!(int_contents, i8),
        DataType::Int16 => field!(int_contents, i16),
        DataType::Int32 => field!(int_contents, i32),
        DataType::Int64 => field!(int64_contents, i64),
        DataType::Fp32 => field!(fp32_contents, f32),
        DataType::Fp64 => field!(fp64_contents, f64),
        DataType::Bytes => InferTensorContents {
            bytes_contents: tensor
                .strings()
                .map(|string| string.to_vec().into())
                .collect(),
            ..InferTensorContents::default()
        },
        DataType::Fp16 | DataType::Bf16 => return None,
    })
}

fn read(response: ModelInferResponse) -> Answer {
    let ModelInferResponse {
        model_name,
        model_version,
        id,
        parameters: _,
        outputs,
        raw_output_contents: raw,
    } = response;
    assert_eq!(outputs.len(), raw.len(), "every output is raw");
    let outputs = outputs.into_iter().zip(raw).map(|(output, raw)| {
        assert_eq!(output.contents, None);
        let dtype = DataType::from_name(&output.datatype).expect("a data type");
        let dims: Vec<_> = output.shape.iter().map(|&dim| dim as usize).collect();
        NamedTensor {
            name: output.name,
            tensor: Tensor::new(dtype, shape(&dims), raw.to_vec().into()).expect("a whole tensor"),
        }
    });
    Answer {
        model_name,
        model_version,
        id,
        outputs: outputs.collect(),
    }
}
