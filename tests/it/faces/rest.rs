//! The REST face: JSON, binary, and both in one request.

use onnxd::error::ErrorKind;
use onnxd::http::error::status;
use onnxd::oip::NanForm;
use onnxd::oip::response::write_tensor_object;
use onnxd::tensor::dtype::DataType;
use onnxd::tensor::value::{NamedTensor, Tensor};
use serde_json::{Value, json};

use super::{Answer, Face, Input, Output, Parameter, Request, shape};
use crate::support::client::{self, Answer as HttpAnswer};
use crate::support::server::TestServer;

const JSON_LENGTH: &str = "inference-header-content-length";

/// How tensors travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    Binary,
    /// The first input and every other output as JSON, the rest binary.
    Mixed,
    /// As JSON, at `/predict`.
    Predict,
}

pub struct Rest(pub Form);

impl Face for Rest {
    fn name(&self) -> String {
        format!("REST {:?}", self.0)
    }

    fn infer(&self, server: &TestServer, request: &Request) -> Result<Answer, (i64, String)> {
        let answer = server.ask(&self.request(request));
        match answer.status {
            200 => Ok(read(&answer)),
            status => Err((i64::from(status), answer.error())),
        }
    }

    fn code(&self, kind: ErrorKind) -> i64 {
        i64::from(status(kind).as_u16())
    }
}

impl Rest {
    fn request(&self, request: &Request) -> client::Request {
        let Rest(form) = *self;
        let mut binary = Vec::new();
        let inputs: Vec<String> = request
            .inputs
            .iter()
            .enumerate()
            .map(|(index, input)| match form {
                Form::Json | Form::Predict => json_input(input),
                Form::Mixed if index == 0 => json_input(input),
                _ => binary_input(input, &mut binary),
            })
            .collect();
        let mut parameters = object(&request.parameters);
        if form == Form::Binary {
            parameters["binary_data_output"] = json!(true);
        }
        let outputs: Vec<Value> = request
            .outputs
            .iter()
            .enumerate()
            .map(|(index, Output { name, parameters })| {
                let mut parameters = object(parameters);
                if form == Form::Mixed {
                    parameters["binary_data"] = json!(index % 2 == 1);
                }
                json!({ "name": name, "parameters": parameters })
            })
            .collect();
        let mut body = format!(
            r#"{{"id":{},"inputs":[{}],"parameters":{parameters},"outputs":{}}}"#,
            json!(request.id),
            inputs.join(","),
            json!(outputs)
        )
        .into_bytes();
        let json_bytes = body.len();
        body.append(&mut binary);
        let version = match (form, request.version) {
            (_, "") => String::new(),
            (Form::Predict, version) => format!("/{version}"),
            (_, version) => format!("/versions/{version}"),
        };
        let path = match form {
            Form::Predict => format!("/predict/{}{version}", request.model),
            _ => format!("/v2/models/{}{version}/infer", request.model),
        };
        let request = client::Request::post(&path, body);
        match form {
            Form::Predict => request,
            _ => request.with(JSON_LENGTH, &json_bytes.to_string()),
        }
    }
}

fn json_input(input: &Input) -> String {
    let mut object = Vec::new();
    let tensor = NamedTensor {
        name: String::new(),
        tensor: input.data.clone(),
    };
    write_tensor_object(&mut object, &tensor, NanForm::Token);
    let object = String::from_utf8(object).expect("JSON is text");
    let (_, data) = object.split_once(r#""data":"#).expect("there are data");
    let head =
        json!({ "name": input.name, "datatype": input.datatype, "shape": input.shape }).to_string();
    let head = head.strip_suffix('}').expect("an object");
    format!(r#"{head},"data":{data}"#)
}

fn binary_input(input: &Input, binary: &mut Vec<u8>) -> String {
    let Input {
        name,
        datatype,
        shape,
        data,
    } = input;
    binary.extend_from_slice(data.data());
    let parameters = json!({ "binary_data_size": data.data().len() });
    json!({ "name": name, "datatype": datatype, "shape": shape, "parameters": parameters })
        .to_string()
}

fn object(parameters: &[(&str, Parameter)]) -> Value {
    let value = |parameter: &Parameter| match *parameter {
        Parameter::Bool(value) => json!(value),
        Parameter::Int(value) => json!(value),
        Parameter::Uint(value) => json!(value),
        Parameter::Text(value) => json!(value),
    };
    let pairs = parameters.iter();
    pairs
        .map(|(name, parameter)| ((*name).to_owned(), value(parameter)))
        .collect()
}

/// Reads an answer as a client does that knows nothing of the server's code.
pub fn read(answer: &HttpAnswer) -> Answer {
    let json_length = answer.header(JSON_LENGTH);
    let kind = match json_length {
        Some(_) => "application/octet-stream",
        None => "application/json",
    };
    assert_eq!(answer.header("content-type"), Some(kind));
    let json_bytes = json_length.map_or(answer.body.len(), |length| {
        length.parse().expect("the length is a number")
    });
    let (head, mut binary) = answer.body.split_at(json_bytes);
    let head: Value = serde_json::from_slice(head).expect("the head is JSON");
    let outputs = head["outputs"].as_array().expect("a list of outputs");
    let outputs: Vec<_> = outputs
        .iter()
        .map(|output| read_output(output, &mut binary))
        .collect();
    assert!(binary.is_empty(), "{} bytes are left", binary.len());
    let is_binary = |output: &Value| output.get("parameters").is_some();
    let some_binary = head["outputs"]
        .as_array()
        .is_some_and(|outputs| outputs.iter().any(is_binary));
    assert_eq!(json_length.is_some(), some_binary, "{head}");
    let text = |key: &str| head[key].as_str().unwrap_or_default().to_owned();
    assert_ne!(head.get("id"), Some(&json!("")), "an empty id is left out");
    Answer {
        model_name: text("model_name"),
        model_version: text("model_version"),
        id: text("id"),
        outputs,
    }
}

fn read_output(output: &Value, binary: &mut &[u8]) -> NamedTensor {
    let dtype = output["datatype"].as_str().and_then(DataType::from_name);
    let dtype = dtype.expect("a data type");
    let dims = output["shape"].as_array().expect("a shape").iter();
    let dims: Vec<usize> = dims
        .map(|dim| dim.as_u64().expect("a length") as usize)
        .collect();
    let data = match output.get("parameters") {
        Some(parameters) => {
            assert_eq!(output.get("data"), None, "{output}");
            let keys: Vec<_> = parameters.as_object().expect("an object").keys().collect();
            assert_eq!(keys, ["binary_data_size"]);
            let size = parameters["binary_data_size"].as_u64().expect("a size");
            let (data, rest) = binary.split_at(size as usize);
            *binary = rest;
            data.to_vec()
        }
        None => {
            let elements = output["data"].as_array().expect("data");
            elements
                .iter()
                .flat_map(|element| bytes(dtype, element))
                .collect()
        }
    };
    NamedTensor {
        name: output["name"].as_str().expect("a name").to_owned(),
        tensor: Tensor::new(dtype, shape(&dims), data.into()).expect("a whole tensor"),
    }
}

/// A JSON element as the binary wire has it; `null` is NaN.
fn bytes(dtype: DataType, element: &Value) -> Vec<u8> {
    let float = || element.as_f64().unwrap_or(f64::NAN);
    let signed = || element.as_i64().expect("a whole number");
    let unsigned = || element.as_u64().expect("a whole number");
    match dtype {
        DataType::Bool => vec![element.as_bool().expect("a truth value").into()],
        DataType::UInt8 => vec![unsigned() as u8],
        DataType::UInt16 => (unsigned() as u16).to_le_bytes().into(),
        DataType::UInt32 => (unsigned() as u32).to_le_bytes().into(),
        DataType::UInt64 => unsigned().to_le_bytes().into(),
        DataType::Int8 => (signed() as i8).to_le_bytes().into(),
        DataType::Int16 => (signed() as i16).to_le_bytes().into(),
        DataType::Int32 => (signed() as i32).to_le_bytes().into(),
        DataType::Int64 => signed().to_le_bytes().into(),
        DataType::Fp16 => half::f16::from_f64(float()).to_le_bytes().into(),
        DataType::Bf16 => half::bf16::from_f64(float()).to_le_bytes().into(),
        DataType::Fp32 => (float() as f32).to_le_bytes().into(),
        DataType::Fp64 => float().to_le_bytes().into(),
        DataType::Bytes => {
            use base64::Engine;
            let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text);
            let string = match (element.as_str(), element["b64"].as_str()) {
                (Some(text), _) => text.as_bytes().to_vec(),
                (None, Some(text)) => decode(text).expect("base64"),
                _ => panic!("{element} is no string"),
            };
            let length = u32::try_from(string.len()).expect("a short string");
            [length.to_le_bytes().to_vec(), string].concat()
        }
    }
}
