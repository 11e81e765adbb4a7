//! Reads the body of a request, in any of the three styles, into typed tensors.
//!
//! The model's signature is at hand while the body is read, so a value goes straight into a buffer of the type
//! that the model wants. Only a protocol tensor whose `data` comes before both its `name` and its `datatype` is
//! kept as raw text for a moment.

mod fields;
mod inputs;
mod parameters;
mod rows;
mod tensor_object;
mod values;

use std::cell::RefCell;

use bytes::Bytes;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use self::fields::UnlessNull;
pub use self::fields::{Text, TextField};
use self::inputs::Inputs;
use self::parameters::{Outputs, ParametersSeed};
use self::rows::Rows;
use super::elements::TensorBuilder;
use super::parameters::{OutputParameters, RequestParameters};
use super::{Style, tokens};
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::tensor::signature::Signature;
use crate::tensor::value::NamedTensor;

/// A request as it was written: its tensors are well formed, not yet checked against the model.
#[derive(Debug)]
pub struct DecodedRequest {
    pub style: Style,
    pub id: Option<String>,
    pub parameters: RequestParameters,
    pub inputs: Vec<NamedTensor>,
    /// The outputs that are wanted; empty means all.
    pub outputs: Vec<WantedOutput>,
}

/// An output that a request asks for, not yet checked against the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedOutput {
    pub name: String,
    pub parameters: OutputParameters,
}

/// Reads a request body for a model with this signature.
///
/// Accepted are `{"instances": [row, …]}`, `{"inputs": {name: nested}}`, `{"inputs": nested}` and the Open
/// Inference Protocol's `{"inputs": [{"name", "shape", "datatype", "data"}, …]}`.
pub fn decode(body: &[u8], signature: &Signature, limits: &Limits) -> Result<DecodedRequest> {
    decode_with(body, &Bytes::new(), signature, limits)
}

/// Reads a request whose JSON has raw tensors behind it, one for each input with `binary_data_size`, in their order.
pub fn decode_with(
    json: &[u8],
    binary: &Bytes,
    signature: &Signature,
    limits: &Limits,
) -> Result<DecodedRequest> {
    let context = |rewritten| Context {
        signature,
        limits,
        rewritten,
        binary: RefCell::new(binary.clone()),
        failure: RefCell::default(),
    };
    match parse(json, context(false)) {
        Err(Failure::Syntax(error)) => match tokens::rewrite(json) {
            Some(json) => parse(&json, context(true)).map_err(Failure::into_error),
            None => Err(Failure::Syntax(error).into_error()),
        },
        other => other.map_err(Failure::into_error),
    }
}

/// Reads a request that stands in a larger text, in which [`tokens::rewrite`] has replaced bare tokens.
pub fn decode_rewritten(
    json: &[u8],
    signature: &Signature,
    limits: &Limits,
) -> Result<DecodedRequest> {
    let context = Context {
        signature,
        limits,
        rewritten: true,
        binary: RefCell::default(),
        failure: RefCell::default(),
    };
    parse(json, context).map_err(Failure::into_error)
}

enum Failure {
    Syntax(serde_json::Error),
    Other(Error),
}

impl Failure {
    fn into_error(self) -> Error {
        match self {
            Failure::Syntax(error) => Error::invalid(format!(
                "the body is not valid JSON: {error}; expected an object with 'instances' or 'inputs'"
            )),
            Failure::Other(error) => error,
        }
    }
}

fn parse(body: &[u8], context: Context<'_>) -> Result<DecodedRequest, Failure> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let parsed = json
        .deserialize_any(Body(&context))
        .and_then(|fields| json.end().map(|()| fields));
    let fields = match parsed {
        Ok(fields) => fields,
        Err(error) => {
            return Err(match context.failure.into_inner() {
                Some(failure) => Failure::Other(failure),
                None if error.is_data() => {
                    Failure::Other(Error::invalid(format!("the request is not valid: {error}")))
                }
                None => Failure::Syntax(error),
            });
        }
    };
    let request = fields.into_request().map_err(Failure::Other)?;
    match context.binary.into_inner().len() {
        0 => Ok(request),
        left => Err(Failure::Other(Error::invalid(format!(
            "the body has {left} bytes more than its JSON and the inputs with 'binary_data_size' need"
        )))),
    }
}

/// What every visitor needs, and where it leaves an error that serde's own could not carry.
pub struct Context<'a> {
    pub signature: &'a Signature,
    pub limits: &'a Limits,
    /// Whether bare NaN tokens were replaced by marked strings.
    pub rewritten: bool,
    /// What is left of the raw tensors behind the JSON.
    binary: RefCell<Bytes>,
    failure: RefCell<Option<Error>>,
}

impl Context<'_> {
    /// Keeps `error` for the caller and returns one that stops serde.
    pub fn fail<E: serde::de::Error>(&self, error: Error) -> E {
        let stop = E::custom(&error);
        self.failure.replace(Some(error));
        stop
    }

    fn check<T, E: serde::de::Error>(&self, result: Result<T>) -> Result<T, E> {
        result.map_err(|error| self.fail(error))
    }

    /// The next so many bytes behind the JSON.
    fn take_binary(&self, of: &str, size: u64) -> Result<Bytes> {
        let mut rest = self.binary.borrow_mut();
        match usize::try_from(size) {
            Ok(size) if size <= rest.len() => Ok(rest.split_to(size)),
            _ => Err(Error::invalid(format!(
                "{of}: parameter 'binary_data_size' is {size}, and the body has {} bytes left behind its JSON and the inputs before; \
                 the header Inference-Header-Content-Length tells where the JSON ends",
                rest.len()
            ))),
        }
    }

    /// The only input, for the forms that name none.
    fn only_input<E: serde::de::Error>(&self, what: &str) -> Result<TensorBuilder<'_>, E> {
        match self.signature.inputs.as_slice() {
            [input] => Ok(TensorBuilder::new(&input.name, input.dtype)),
            inputs => {
                let names: Vec<_> = inputs
                    .iter()
                    .map(|input| format!("'{}'", input.name))
                    .collect();
                Err(self.fail(Error::invalid(format!(
                    "{what}: expected an object with {}, since the model has {} inputs",
                    names.join(", "),
                    inputs.len()
                ))))
            }
        }
    }
}

/// The top-level fields as they were found.
#[derive(Default)]
struct Fields {
    rows: Option<Vec<NamedTensor>>,
    inputs: Option<(Style, Vec<NamedTensor>)>,
    id: Option<String>,
    parameters: Option<RequestParameters>,
    outputs: Option<Vec<WantedOutput>>,
}

impl Fields {
    fn into_request(self) -> Result<DecodedRequest> {
        let Fields {
            rows,
            inputs,
            id,
            parameters,
            outputs,
        } = self;
        let (style, inputs) = match (rows, inputs) {
            (Some(rows), None) => (Style::Rows, rows),
            (None, Some(inputs)) => inputs,
            _ => {
                return Err(Error::invalid(
                    "expected exactly one of 'instances' and 'inputs'",
                ));
            }
        };
        if outputs.is_some() && style != Style::Protocol {
            return Err(Error::invalid(
                "'outputs' needs 'inputs' as a list of tensor objects",
            ));
        }
        let id = id.filter(|id| !id.is_empty());
        Ok(DecodedRequest {
            style,
            id,
            parameters: parameters.unwrap_or_default(),
            inputs,
            outputs: outputs.unwrap_or_default(),
        })
    }
}

struct Body<'c>(&'c Context<'c>);

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Fields;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object with 'instances' or 'inputs'")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let Body(context) = self;
        let mut fields = Fields::default();
        while let Some(Text(key)) = map.next_key()? {
            let fresh = match &*key {
                "instances" => fields
                    .rows
                    .replace(map.next_value_seed(Rows(context))?)
                    .is_none(),
                "inputs" => fields
                    .inputs
                    .replace(map.next_value_seed(Inputs(context))?)
                    .is_none(),
                "outputs" => fields
                    .outputs
                    .replace(map.next_value_seed(Outputs(context))?)
                    .is_none(),
                "id" => {
                    let id = map.next_value_seed(UnlessNull(TextField("'id'")))?;
                    fields
                        .id
                        .replace(id.unwrap_or_default().into_owned())
                        .is_none()
                }
                "parameters" => fields
                    .parameters
                    .replace(map.next_value_seed(ParametersSeed::new(context))?)
                    .is_none(),
                // The path says it already; KServe's client says it again.
                "signature_name" | "model_name" => map.next_value::<IgnoredAny>().map(|_| true)?,
                other => {
                    return Err(context.fail(Error::invalid(format!(
                        "unknown key '{other}'; valid keys are 'instances', 'inputs', 'outputs', 'id', 'parameters', 'signature_name'"
                    ))));
                }
            };
            if !fresh {
                return Err(context.fail(Error::invalid(format!("key '{key}' is given twice"))));
            }
        }
        Ok(fields)
    }
}
