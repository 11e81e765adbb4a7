//! JSON Schemas of a model's requests, from its signature: exact, but where a schema cannot say that lengths agree.

use serde_json::{Map, Value, json};

use super::SCHEMAS;
use super::operations::reference;
use crate::tensor::dtype::DataType;
use crate::tensor::signature::{Dim, Signature, TensorSpec};

/// `{"instances": [row, …]}`
pub fn rows(signature: &Signature) -> Value {
    let row = |spec: &TensorSpec| match spec.dims.as_deref() {
        Some([_, dims @ ..]) => nested(spec.dtype, dims),
        _ => json!({}),
    };
    let rows = any_form(&signature.inputs, row);
    let instances = json!({ "type": "array", "minItems": 1, "items": rows });
    narrowed("RowsRequest", "instances", instances)
}

/// `{"inputs": {name: nested, …}}`
pub fn columns(signature: &Signature) -> Value {
    let column = |spec: &TensorSpec| match spec.dims.as_deref() {
        Some(dims) => nested(spec.dtype, dims),
        None => json!({}),
    };
    narrowed(
        "ColumnsRequest",
        "inputs",
        any_form(&signature.inputs, column),
    )
}

/// `{"inputs": [{"name", "shape", "datatype", "data"}, …]}`
pub fn tensors(signature: &Signature) -> Value {
    let Signature { inputs, outputs } = signature;
    let tensors: Vec<Value> = inputs.iter().map(tensor).collect();
    let count = inputs.len();
    let inputs = json!({ "type": "array", "minItems": count, "maxItems": count, "items": { "anyOf": tensors } });
    let mut schema = narrowed("InferRequest", "inputs", inputs);
    let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
    let mut wanted = SCHEMAS["WantedOutputs"].clone();
    wanted["items"]["properties"]["name"] = json!({ "enum": names });
    schema["properties"]["outputs"] = wanted;
    schema
}

/// A schema of any model, with one property narrowed to this one.
fn narrowed(general: &str, property: &str, schema: Value) -> Value {
    let mut narrowed = SCHEMAS[general].clone();
    narrowed["properties"][property] = schema;
    narrowed
}

/// An object with every input, or the value of the only one.
fn any_form(inputs: &[TensorSpec], value: impl Fn(&TensorSpec) -> Value) -> Value {
    let properties: Map<String, Value> = inputs
        .iter()
        .map(|spec| (spec.name.clone(), value(spec)))
        .collect();
    let names: Vec<&str> = inputs.iter().map(|spec| spec.name.as_str()).collect();
    let object = json!({ "type": "object", "required": names, "properties": properties, "additionalProperties": false });
    match inputs {
        [input] => json!({ "anyOf": [value(input), object] }),
        _ => object,
    }
}

/// Lists nested like these dimensions.
fn nested(dtype: DataType, dims: &[Dim]) -> Value {
    let Some((first, inner)) = dims.split_first() else {
        return reference("schemas", dtype.name());
    };
    let items = nested(dtype, inner);
    match first {
        Dim::Fixed(length) => {
            json!({ "type": "array", "minItems": length, "maxItems": length, "items": items })
        }
        // Without a list in it, the lists further in would be missing.
        Dim::Dynamic(_) if !inner.is_empty() => {
            json!({ "type": "array", "minItems": 1, "items": items })
        }
        Dim::Dynamic(_) => json!({ "type": "array", "items": items }),
    }
}

fn tensor(spec: &TensorSpec) -> Value {
    let TensorSpec {
        name,
        dtype,
        dims,
        columns: _,
    } = spec;
    let mut schema = SCHEMAS["TensorObject"].clone();
    schema["required"] = json!(["name", "shape", "datatype", "data"]);
    let properties = &mut schema["properties"];
    properties["name"] = json!({ "const": name });
    properties["datatype"] = json!({ "const": dtype.name() });
    if let Some(dims) = dims {
        let lengths = dims.iter().map(|dim| match dim {
            Dim::Fixed(length) => json!({ "const": length }),
            Dim::Dynamic(_) => json!({ "type": "integer", "minimum": 0 }),
        });
        let rank = dims.len();
        properties["shape"] = json!({ "type": "array", "minItems": rank, "maxItems": rank, "prefixItems": lengths.collect::<Value>() });
    }
    let item = json!({ "anyOf": [reference("schemas", dtype.name()), { "type": "array" }] });
    properties["data"] = json!({ "description": "Flat or nested like the shape, row-major.", "type": "array", "items": item });
    schema
}
