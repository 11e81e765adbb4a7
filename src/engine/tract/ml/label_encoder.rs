//! LabelEncoder (ai.onnx.ml 1 to 4) and CategoryMapper (1): maps each label to another, unknown ones to a default.

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::host::{Fact, Host, Operator};
use super::index::{Duplicates, Index, pick_or_last};

/// Registers the operators.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("LabelEncoder", |context, node| {
        let is_first_version = node
            .attribute
            .iter()
            .any(|attribute| attribute.name == "classes_strings");
        let node = match is_first_version {
            true => Host::node(TwoWay::read_classes(node)?),
            false => Host::node(LabelEncoder::read(context, node)?),
        };
        Ok((node, vec![]))
    });
    operators.insert("CategoryMapper", |_, node| {
        Ok((Host::node(TwoWay::read_categories(node)?), vec![]))
    });
}

/// One list of keys, one of values (LabelEncoder from version 2 on).
#[derive(Debug)]
struct LabelEncoder {
    index: Index,
    key_type: DatumType,
    /// The labels that come out; the last is the default.
    values: Tensor,
}

impl LabelEncoder {
    fn read(context: &ParsingContext, node: &NodeProto) -> TractResult<LabelEncoder> {
        let keys = labels(context, node, "keys")?;
        let values = labels(context, node, "values")?;
        ensure!(
            keys.len() == values.len(),
            "{} keys and {} values",
            keys.len(),
            values.len()
        );
        let default = default(context, node, values.datum_type())?;
        let mut index = Index::new(&keys, Duplicates::FirstCounts)?;
        // Only since version 4 does ONNX say that NaN is a key like others; ONNX Runtime never finds it before.
        if version(context) < 4 {
            index.forget_nan();
        }
        Ok(LabelEncoder {
            index,
            key_type: keys.datum_type(),
            values: Tensor::stack_tensors(0, &[values, default])?,
        })
    }
}

/// The version of the operator set.
fn version(context: &ParsingContext) -> i64 {
    let imports = &context.model.opset_import;
    let import = imports.iter().find(|import| import.domain == "ai.onnx.ml");
    import.map_or(1, |import| import.version)
}

/// The list in `<prefix>_strings`, `<prefix>_int64s`, `<prefix>_floats` or `<prefix>_tensor`.
fn labels(context: &ParsingContext, node: &NodeProto, prefix: &str) -> TractResult<Tensor> {
    if let Some(texts) = texts(node, &format!("{prefix}_strings"))? {
        return Ok(tensor1(&texts));
    }
    if let Some(integers) = node.get_attr_opt_slice::<i64>(&format!("{prefix}_int64s"))? {
        return Ok(tensor1(integers));
    }
    if let Some(floats) = node.get_attr_opt_slice::<f32>(&format!("{prefix}_floats"))? {
        return Ok(tensor1(floats));
    }
    let tensor = node.get_attr_opt::<&TensorProto>(&format!("{prefix}_tensor"))?;
    let tensor = tensor.with_context(|| format!("there are no {prefix}"))?;
    as_list(context.load_tensor(tensor)?)
}

/// The label of unknown keys: `default_tensor`, else the attribute of the values' type, else what ONNX says.
fn default(context: &ParsingContext, node: &NodeProto, dtype: DatumType) -> TractResult<Tensor> {
    if let Some(tensor) = node.get_attr_opt::<&TensorProto>("default_tensor")? {
        let default = as_list(context.load_tensor(tensor)?)?;
        ensure!(
            default.len() == 1 && default.datum_type() == dtype,
            "default_tensor is {default:?} instead of one value of type {dtype:?}"
        );
        return Ok(default);
    }
    Ok(match dtype {
        DatumType::String => tensor1(&[default_string(node)?]),
        DatumType::F32 | DatumType::F64 => {
            let default: f32 = node.get_attr_opt("default_float")?.unwrap_or(-0.0);
            tensor1(&[default]).cast_to_dt(dtype)?.into_owned()
        }
        // Narrower integers have no attribute of their own, and ONNX Runtime takes no other's.
        DatumType::I16 | DatumType::I32 => tensor1(&[-1]).cast_to_dt(dtype)?.into_owned(),
        DatumType::I64 => tensor1(&[default_int64(node)?]),
        other => bail!("values of type {other:?} are not supported"),
    })
}

fn as_list(tensor: Tensor) -> TractResult<Tensor> {
    let length = tensor.len();
    tensor.into_shape(&[length])
}

fn texts(node: &NodeProto, attribute: &str) -> TractResult<Option<Vec<String>>> {
    let texts = node.get_attr_opt_tvec::<&str>(attribute)?;
    Ok(texts.map(|texts| texts.iter().map(ToString::to_string).collect()))
}

fn default_string(node: &NodeProto) -> TractResult<String> {
    let default: Option<&str> = node.get_attr_opt("default_string")?;
    Ok(default.unwrap_or("_Unused").to_owned())
}

fn default_int64(node: &NodeProto) -> TractResult<i64> {
    Ok(node.get_attr_opt("default_int64")?.unwrap_or(-1))
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
        let positions = self.index.find(&inputs[0])?;
        let labels = pick_or_last(&self.values, &positions, inputs[0].shape())?;
        Ok(tvec![labels])
    }
}

/// Texts and numbers that stand for each other; the input's type decides on the direction (CategoryMapper, and the
/// first version of LabelEncoder).
#[derive(Debug)]
struct TwoWay {
    name: &'static str,
    by_text: Index,
    by_number: Index,
    /// Each with its default as the last.
    texts: Tensor,
    numbers: Tensor,
}

impl TwoWay {
    fn read_classes(node: &NodeProto) -> TractResult<TwoWay> {
        let texts = texts(node, "classes_strings")?.unwrap_or_default();
        let numbers = (0..).take(texts.len()).collect();
        TwoWay::new("LabelEncoder", node, texts, numbers)
    }

    fn read_categories(node: &NodeProto) -> TractResult<TwoWay> {
        let texts = texts(node, "cats_strings")?.context("there are no cats_strings")?;
        let numbers = node.get_attr_vec("cats_int64s")?;
        TwoWay::new("CategoryMapper", node, texts, numbers)
    }

    fn new(
        name: &'static str,
        node: &NodeProto,
        mut texts: Vec<String>,
        mut numbers: Vec<i64>,
    ) -> TractResult<TwoWay> {
        ensure!(
            texts.len() == numbers.len(),
            "{} texts for {} numbers",
            texts.len(),
            numbers.len()
        );
        let by_text = Index::new(&tensor1(&texts), Duplicates::LastCounts)?;
        let by_number = Index::new(&tensor1(&numbers), Duplicates::LastCounts)?;
        texts.push(default_string(node)?);
        numbers.push(default_int64(node)?);
        Ok(TwoWay {
            name,
            by_text,
            by_number,
            texts: tensor1(&texts),
            numbers: tensor1(&numbers),
        })
    }
}

impl Operator for TwoWay {
    fn name(&self) -> &'static str {
        self.name
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        let becomes = match dtype {
            DatumType::String => DatumType::I64,
            DatumType::I64 => DatumType::String,
            other => bail!("inputs of type {other:?} are not supported"),
        };
        Ok(vec![(becomes, shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (index, values) = match inputs[0].datum_type() {
            DatumType::String => (&self.by_text, &self.numbers),
            _ => (&self.by_number, &self.texts),
        };
        let positions = index.find(&inputs[0])?;
        Ok(tvec![pick_or_last(values, &positions, inputs[0].shape())?])
    }
}
