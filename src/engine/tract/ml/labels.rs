//! The operators that map labels: LabelEncoder (ai.onnx.ml 2) and OneHotEncoder (1).

use std::collections::HashMap;
use std::hash::Hash;

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::host::{Fact, Host, Operator};

/// Registers the operators.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("LabelEncoder", |_, node| {
        Ok((Host::node(LabelEncoder::read(node)?), vec![]))
    });
    operators.insert("OneHotEncoder", |_, node| {
        Ok((Host::node(OneHotEncoder::read(node)?), vec![]))
    });
}

/// A label as a key: floats by their bits, and one NaN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Integer(i64),
    Float(u32),
    Text(String),
}

impl Key {
    fn of_float(value: f32) -> Key {
        // Zero has two forms and NaN many.
        Key::Float(if value.is_nan() {
            f32::NAN.to_bits()
        } else {
            (value + 0.0).to_bits()
        })
    }
}

/// The elements of a tensor as keys; `None` for types that no encoder takes.
fn keys(tensor: &Tensor) -> TractResult<Vec<Key>> {
    let view = tensor.try_as_plain_ram()?;
    Ok(match tensor.datum_type() {
        DatumType::I64 => view
            .as_slice::<i64>()?
            .iter()
            .map(|value| Key::Integer(*value))
            .collect(),
        DatumType::I32 => view
            .as_slice::<i32>()?
            .iter()
            .map(|value| Key::Integer((*value).into()))
            .collect(),
        DatumType::F32 => view
            .as_slice::<f32>()?
            .iter()
            .map(|value| Key::of_float(*value))
            .collect(),
        DatumType::String => view
            .as_slice::<String>()?
            .iter()
            .cloned()
            .map(Key::Text)
            .collect(),
        other => bail!("inputs of type {other:?} are not supported"),
    })
}

/// Maps each label to another, unknown ones to a default.
#[derive(Debug)]
struct LabelEncoder {
    keys: HashMap<Key, usize>,
    key_type: DatumType,
    /// The labels that come out; the last is the default.
    values: Tensor,
}

impl LabelEncoder {
    fn read(node: &NodeProto) -> TractResult<LabelEncoder> {
        let tensors = [
            "keys_tensor",
            "values_tensor",
            "default_tensor",
            "classes_strings",
        ];
        if let Some(attribute) = node
            .attribute
            .iter()
            .find(|found| tensors.contains(&found.name.as_str()))
        {
            bail!(
                "attribute {} (opset 1 or 4) is not supported; export with ai.onnx.ml 2 or 3",
                attribute.name
            );
        }
        let from = attribute(node, "keys", None)?;
        let values = attribute(node, "values", Some(node))?;
        ensure!(
            from.len() + 1 == values.len(),
            "{} keys and {} values",
            from.len(),
            values.len() - 1
        );
        let keys = keys(&from)?
            .into_iter()
            .enumerate()
            .map(|(index, key)| (key, index))
            .collect();
        Ok(LabelEncoder {
            keys,
            key_type: from.datum_type(),
            values,
        })
    }
}

/// The list in `<prefix>_strings`, `<prefix>_int64s` or `<prefix>_floats`, with the node's default of that type added
/// where one is asked for.
fn attribute(node: &NodeProto, prefix: &str, default: Option<&NodeProto>) -> TractResult<Tensor> {
    if let Some(strings) = node.get_attr_opt_tvec::<&str>(&format!("{prefix}_strings"))? {
        let mut strings: Vec<String> = strings.iter().map(ToString::to_string).collect();
        if let Some(node) = default {
            strings.push(
                node.get_attr_opt::<&str>("default_string")?
                    .unwrap_or("_Unused")
                    .to_owned(),
            );
        }
        return Ok(tensor1(&strings));
    }
    if let Some(mut integers) = node.get_attr_opt_vec::<i64>(&format!("{prefix}_int64s"))? {
        if let Some(node) = default {
            integers.push(node.get_attr_opt("default_int64")?.unwrap_or(-1));
        }
        return Ok(tensor1(&integers));
    }
    if let Some(mut floats) = node.get_attr_opt_vec::<f32>(&format!("{prefix}_floats"))? {
        if let Some(node) = default {
            floats.push(node.get_attr_opt("default_float")?.unwrap_or(-0.0));
        }
        return Ok(tensor1(&floats));
    }
    bail!("there are no {prefix}")
}

impl Operator for LabelEncoder {
    fn name(&self) -> &'static str {
        "LabelEncoder"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        ensure!(
            *dtype == self.key_type,
            "inputs of type {dtype:?} do not fit keys of type {:?}",
            self.key_type
        );
        Ok(vec![(self.values.datum_type(), shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        fn map<T: Datum>(
            values: &Tensor,
            indices: &[usize],
            shape: &[usize],
        ) -> TractResult<Tensor> {
            let view = values.try_as_plain_ram()?;
            let values = view.as_slice::<T>()?;
            let mapped = indices.iter().map(|index| values[*index].clone()).collect();
            Ok(tract_ndarray::ArrayD::from_shape_vec(shape, mapped)?.into_tensor())
        }
        let default = self.values.len() - 1;
        let index = |key: Key| self.keys.get(&key).copied().unwrap_or(default);
        let indices: Vec<usize> = keys(&inputs[0])?.into_iter().map(index).collect();
        let output = dispatch_datum!(map(self.values.datum_type())(
            &self.values,
            &indices,
            inputs[0].shape()
        ))?;
        Ok(tvec![output.into_tvalue()])
    }
}

/// One column a category: 1 where the input is that category.
#[derive(Debug)]
struct OneHotEncoder {
    categories: HashMap<Key, usize>,
    /// An unknown category is all zeros; else an error.
    zeros: bool,
}

impl OneHotEncoder {
    fn read(node: &NodeProto) -> TractResult<OneHotEncoder> {
        let integers = node
            .get_attr_opt_slice::<i64>("cats_int64s")?
            .filter(|list| !list.is_empty());
        let strings = node
            .get_attr_opt_tvec::<&str>("cats_strings")?
            .filter(|list| !list.is_empty());
        let categories: Vec<Key> = match (integers, strings) {
            (Some(categories), None) => categories
                .iter()
                .map(|category| Key::Integer(*category))
                .collect(),
            (None, Some(categories)) => categories
                .iter()
                .map(|category| Key::Text(category.to_string()))
                .collect(),
            _ => bail!("exactly one of cats_int64s and cats_strings must be given"),
        };
        let zeros = node.get_attr_opt::<i64>("zeros")?.unwrap_or(1) != 0;
        let categories = categories
            .into_iter()
            .enumerate()
            .map(|(index, key)| (key, index))
            .collect();
        Ok(OneHotEncoder { categories, zeros })
    }
}

impl Operator for OneHotEncoder {
    fn name(&self) -> &'static str {
        "OneHotEncoder"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        let takes_text = self
            .categories
            .keys()
            .any(|key| matches!(key, Key::Text(_)));
        ensure!(
            takes_text == (*dtype == String::datum_type()),
            "inputs of type {dtype:?} do not fit the categories"
        );
        let mut shape = shape.clone();
        shape.push(self.categories.len().to_dim());
        Ok(vec![(f32::datum_type(), shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = match inputs[0].datum_type() {
            DatumType::F32 | DatumType::F64 => inputs[0].cast_to::<i64>()?.into_owned(),
            _ => inputs[0].clone().into_tensor(),
        };
        let keys = keys(&input)?;
        let width = self.categories.len();
        let mut output = vec![0.0f32; keys.len() * width];
        for (row, key) in keys.iter().enumerate() {
            match self.categories.get(key) {
                Some(category) => output[row * width + category] = 1.0,
                None => ensure!(self.zeros, "{key:?} is not among the categories"),
            }
        }
        let mut shape = inputs[0].shape().to_vec();
        shape.push(width);
        Ok(tvec![
            tract_ndarray::ArrayD::from_shape_vec(shape, output)?
                .into_tensor()
                .into_tvalue()
        ])
    }
}
