//! A request and the answer that it is to get, in one JSON object: the form of golden requests.
//!
//! ```json
//! {"request": {"inputs": […]}, "response": {"outputs": […]}, "tolerance": {"absolute": 1e-5, "relative": 1e-4}}
//! ```
//!
//! Both are those of the Open Inference Protocol, read like any request: an answer's outputs are tensors too.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::request::{DecodedRequest, decode_rewritten};
use super::response::{write_list, write_tensor_object};
use super::{NanForm, Style, tokens};
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::tensor::expectation::Tolerance;
use crate::tensor::signature::{Signature, TensorSpec};
use crate::tensor::value::NamedTensor;

/// A request and what is expected of its answer; the inputs are not yet checked against the model.
#[derive(Debug)]
pub struct Recorded {
    pub inputs: Vec<NamedTensor>,
    /// At least one, each an output of the model, in its type.
    pub outputs: Vec<NamedTensor>,
    pub tolerance: Option<Tolerance>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow)]
    request: &'a RawValue,
    #[serde(borrow)]
    response: &'a RawValue,
    tolerance: Option<Tolerance>,
}

/// An answer as servers give it; only its outputs are compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAnswer<'a> {
    #[serde(borrow)]
    outputs: &'a RawValue,
    #[serde(rename = "model_name")]
    _model_name: Option<IgnoredAny>,
    #[serde(rename = "model_version")]
    _model_version: Option<IgnoredAny>,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "parameters")]
    _parameters: Option<IgnoredAny>,
}

/// Reads what was recorded of a model with this signature.
pub fn read(text: &[u8], signature: &Signature, limits: &Limits) -> Result<Recorded> {
    let rewritten = tokens::rewrite(text);
    let text = rewritten.as_deref().unwrap_or(text);
    let Written {
        request,
        response,
        tolerance,
    } = serde_json::from_slice(text).map_err(|error| {
        Error::invalid(format!("expected {{\"request\", \"response\"}}: {error}"))
    })?;
    let DecodedRequest {
        inputs, outputs, ..
    } = protocol(request.get().as_bytes(), signature, limits)
        .map_err(|error| Error::invalid(format!("request: {}", error.chain())))?;
    if !outputs.is_empty() {
        return Err(Error::invalid(
            "request: 'outputs' has no place here; the response says which outputs are compared",
        ));
    }
    let outputs = read_answer(response.get().as_bytes(), signature, limits)
        .map_err(|error| Error::invalid(format!("response: {}", error.chain())))?;
    Ok(Recorded {
        inputs,
        outputs,
        tolerance,
    })
}

/// Reads the outputs of an answer of a model with this signature.
pub fn read_answer(
    text: &[u8],
    signature: &Signature,
    limits: &Limits,
) -> Result<Vec<NamedTensor>> {
    let rewritten = tokens::rewrite(text);
    let text = rewritten.as_deref().unwrap_or(text);
    let answer: WrittenAnswer<'_> =
        serde_json::from_slice(text).map_err(|error| Error::invalid(error.to_string()))?;
    let body = format!("{{\"inputs\":{}}}", answer.outputs.get());
    // What a file says of the shapes of its outputs is not always true.
    let any_shape = |output: &TensorSpec| TensorSpec {
        dims: None,
        ..output.clone()
    };
    let as_inputs = Signature {
        inputs: signature.outputs.iter().map(any_shape).collect(),
        outputs: Vec::new(),
    };
    let DecodedRequest {
        inputs: outputs, ..
    } = protocol(body.as_bytes(), &as_inputs, limits)
        .map_err(|error| Error::invalid(said_of_outputs(&format!(" {}", error.chain())).trim()))?;
    for (at, output) in outputs.iter().enumerate() {
        if outputs[..at]
            .iter()
            .any(|before| before.name == output.name)
        {
            return Err(Error::invalid(format!(
                "output '{}' is given twice",
                output.name
            )));
        }
    }
    match outputs.is_empty() {
        true => Err(Error::invalid(
            "'outputs' is empty, so that nothing is expected",
        )),
        false => Ok(outputs),
    }
}

fn protocol(body: &[u8], signature: &Signature, limits: &Limits) -> Result<DecodedRequest> {
    let request = decode_rewritten(body, signature, limits)?;
    match request.style {
        Style::Protocol => Ok(request),
        Style::Rows | Style::Columns => Err(Error::invalid(
            "'inputs' must be a list of tensors with 'name', 'datatype', 'shape' and 'data', as the Open Inference \
             Protocol has them",
        )),
    }
}

/// A message about inputs, said of outputs; names stay, which stand in quotes.
fn said_of_outputs(message: &str) -> String {
    let mut said = String::new();
    let mut rest = message;
    // An apostrophe opens no quote: a letter comes before it.
    while let Some((before, quoted)) = rest.split_once(" '") {
        said.push_str(&before.replace("input", "output"));
        let (name, after) = quoted.split_once('\'').unwrap_or((quoted, ""));
        let name = if name == "inputs" { "outputs" } else { name };
        said.push_str(&format!(" '{name}'"));
        rest = after;
    }
    said.push_str(&rest.replace("input", "output"));
    said
}

/// Writes what [`read`] reads, one line a part, so that changes are easy to see.
pub fn write(inputs: &[NamedTensor], outputs: &[NamedTensor]) -> Vec<u8> {
    let mut out = b"{\"request\":{\"inputs\":".to_vec();
    write_tensors(&mut out, inputs);
    out.extend_from_slice(b"},\n\"response\":{\"outputs\":");
    write_tensors(&mut out, outputs);
    out.extend_from_slice(b"}}\n");
    out
}

/// The body of a request whose answer [`read_answer`] reads without loss.
pub fn request_body(inputs: &[NamedTensor]) -> Vec<u8> {
    let mut out = b"{\"parameters\":{\"nan\":\"token\"},\"inputs\":".to_vec();
    write_tensors(&mut out, inputs);
    out.push(b'}');
    out
}

fn write_tensors(out: &mut Vec<u8>, tensors: &[NamedTensor]) {
    write_list(out, b"[]", tensors, |out, tensor| {
        write_tensor_object(out, tensor, NanForm::Token);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::DataType;
    use crate::tensor::signature::Dim;

    const LIMITS: Limits = Limits {
        body_bytes: 1 << 20,
        tensor_elements: 100,
        json_depth: 10,
    };

    fn signature() -> Signature {
        let spec = |name: &str, dtype| TensorSpec {
            name: name.to_owned(),
            dtype,
            dims: Some(vec![Dim::Dynamic(None)]),
            columns: None,
        };
        Signature {
            inputs: vec![spec("x", DataType::Fp32)],
            outputs: vec![spec("y", DataType::Fp32), spec("input", DataType::Bytes)],
        }
    }

    fn message(text: &str) -> String {
        read(text.as_bytes(), &signature(), &LIMITS)
            .expect_err("it is wrong")
            .chain()
    }

    const REQUEST: &str =
        r#""request":{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1,NaN]}]}"#;

    fn with_outputs(outputs: &str) -> String {
        format!(r#"{{{REQUEST},"response":{{"outputs":{outputs}}}}}"#)
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = with_outputs(
            r#"[{"name":"y","datatype":"FP32","shape":[3],"data":[-Infinity,NaN,0.1]},
                {"name":"input","datatype":"BYTES","shape":[1,1],"data":["a \"NaN\""]}]"#,
        );
        let read_back = |text: &[u8]| read(text, &signature(), &LIMITS).expect("it is sound");
        let first = read_back(text.as_bytes());
        let y = first.outputs[0].tensor.elements::<f32>();
        assert_eq!((y[0], y[2]), (f32::NEG_INFINITY, 0.1));
        assert!(y[1].is_nan() && first.inputs[0].tensor.elements::<f32>()[1].is_nan());
        let strings: Vec<_> = first.outputs[1].tensor.strings().collect();
        assert_eq!(strings, [b"a \"NaN\""]);
        let again = read_back(&write(&first.inputs, &first.outputs));
        assert_eq!(
            (again.inputs, again.outputs),
            (first.inputs.clone(), first.outputs.clone())
        );
    }

    #[test]
    fn an_answer_may_say_more_than_its_outputs() {
        let text = format!(
            r#"{{{REQUEST},"tolerance":0.5,"response":{{"model_name":"m","model_version":"1","id":null,"parameters":{{}},
               "outputs":[{{"name":"y","datatype":"FP32","shape":[1],"data":[1]}}]}}}}"#
        );
        let recorded = read(text.as_bytes(), &signature(), &LIMITS).expect("it is sound");
        assert_eq!(recorded.tolerance.map(|both| both.relative), Some(0.5));
    }

    #[test]
    fn mistakes_name_the_part_and_the_field() {
        for (text, expected) in [
            ("{", "expected {\"request\", \"response\"}: EOF"),
            (r#"{"request":{}}"#, "missing field `response`"),
            (
                r#"{"request":{},"response":{},"answer":1}"#,
                "unknown field `answer`",
            ),
            (
                r#"{"request":{},"response":{}}"#,
                "request: expected exactly one of 'instances' and 'inputs'",
            ),
            (
                r#"{"request":{"instances":[1]},"response":{}}"#,
                "request: 'inputs' must be a list of tensors",
            ),
            (&with_outputs("[]"), "response: 'outputs' is empty"),
            (
                &with_outputs("{}"),
                "response: 'outputs' must be a list of tensors",
            ),
            (
                &with_outputs(r#"[{"name":"z","datatype":"FP32","shape":[1],"data":[1]}]"#),
                "response: unknown output 'z'; the model's outputs are 'y', 'input'",
            ),
            (
                &with_outputs(r#"[{"name":"input","datatype":"BYTES","shape":[1],"data":[1]}]"#),
                "response: output 'input', element 0: expected BYTES, got 1",
            ),
            (
                &with_outputs(
                    r#"[{"name":"y","datatype":"FP32","shape":[1],"data":[1]},{"name":"y","datatype":"FP32","shape":[1],"data":[1]}]"#,
                ),
                "response: output 'y' is given twice",
            ),
        ] {
            let message = message(text);
            assert!(message.contains(expected), "{message}");
        }
    }
}
