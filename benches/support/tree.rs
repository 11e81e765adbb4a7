//! The peer of the JSON bench: the same work by way of a tree of `serde_json::Value`.

use onnxd::oip::Style;
use onnxd::tensor::dtype::DataType;
use onnxd::tensor::shape::Shape;
use onnxd::tensor::value::{NamedTensor, Tensor};
use serde_json::{Value, json};

/// From a tree in the rows style.
pub fn rows(tree: &Value) -> Option<Tensor> {
    let rows = tree["instances"].as_array()?;
    let mut elements = Vec::new();
    for row in rows {
        for value in row.as_array()? {
            elements.push(float(value)?);
        }
    }
    let shape = Shape::new(vec![rows.len(), elements.len() / rows.len()]).ok()?;
    Tensor::from_vec(shape, elements).ok()
}

/// From a tree in the protocol's style, for numbers.
pub fn numbers(tree: &Value) -> Option<Tensor> {
    let input = &tree["inputs"][0];
    let elements = input["data"].as_array()?.iter().map(float);
    Tensor::from_vec(declared_shape(input)?, elements.collect::<Option<_>>()?).ok()
}

/// From a tree in the protocol's style, for text.
pub fn strings(tree: &Value) -> Option<Tensor> {
    let input = &tree["inputs"][0];
    let strings = input["data"].as_array()?.iter().map(Value::as_str);
    Tensor::from_strings(declared_shape(input)?, strings.collect::<Option<Vec<_>>>()?).ok()
}

fn float(value: &Value) -> Option<f32> {
    value.as_f64().map(|value| value as f32)
}

fn declared_shape(input: &Value) -> Option<Shape> {
    let dims = input["shape"].as_array()?.iter();
    let dims: Option<Vec<_>> = dims
        .map(|dim| dim.as_u64().map(|dim| dim as usize))
        .collect();
    Shape::new(dims?).ok()
}

/// An answer as a tree.
pub fn answer(style: Style, outputs: &[NamedTensor]) -> Value {
    let (key, answers) = match style {
        Style::Rows => ("predictions", row_objects(outputs)),
        _ => ("outputs", outputs.iter().map(tensor_object).collect()),
    };
    json!({ "model_name": "model", "model_version": "1", key: answers })
}

fn row_objects(outputs: &[NamedTensor]) -> Vec<Value> {
    let rows = outputs[0].tensor.shape().dims()[0];
    let mut objects = vec![serde_json::Map::new(); rows];
    for NamedTensor { name, tensor } in outputs {
        let mut elements = elements(tensor).into_iter();
        let is_nested = tensor.shape().dims().len() > 1;
        for object in &mut objects {
            let width = tensor.shape().elements() / rows;
            let mut row = elements.by_ref().take(width);
            let value = match is_nested {
                true => row.collect(),
                false => row.next().unwrap_or_default(),
            };
            object.insert(name.clone(), value);
        }
    }
    objects.into_iter().map(Value::Object).collect()
}

fn tensor_object(NamedTensor { name, tensor }: &NamedTensor) -> Value {
    json!({
        "name": name,
        "datatype": tensor.dtype().name(),
        "shape": tensor.shape().dims(),
        "data": elements(tensor),
    })
}

fn elements(tensor: &Tensor) -> Vec<Value> {
    match tensor.dtype() {
        DataType::Int64 => tensor
            .elements::<i64>()
            .iter()
            .map(|&element| element.into())
            .collect(),
        DataType::Fp32 => tensor
            .elements::<f32>()
            .iter()
            .map(|&element| element.into())
            .collect(),
        _ => tensor
            .strings()
            .map(|string| String::from_utf8_lossy(string).into())
            .collect(),
    }
}

/// What an answer says, with numbers as 32-bit floats, which is all that both sides keep.
pub fn leaves(answer: &[u8]) -> Vec<String> {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Object(fields) => fields.iter().for_each(|(key, value)| {
                found.push(key.clone());
                walk(value, found);
            }),
            Value::Number(number) => found.push(
                number
                    .as_f64()
                    .map_or(0.0, |number| number as f32)
                    .to_string(),
            ),
            other => found.push(other.to_string()),
        }
    }
    let mut found = Vec::new();
    walk(
        &serde_json::from_slice(answer).expect("an answer is JSON"),
        &mut found,
    );
    found
}
