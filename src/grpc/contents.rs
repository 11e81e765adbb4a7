//! Tensors of a request, out of typed fields or raw bytes, and of an answer, into raw bytes.

use std::fmt::Display;

use bytes::Bytes;

use super::inference::InferTensorContents;
use super::inference::model_infer_request::InferInputTensor;
use super::inference::model_infer_response::InferOutputTensor;
use crate::error::{Error, Result};
use crate::exchange::aside::cost;
use crate::oip::parameters::{InputParameters, Parameters};
use crate::tensor::dtype::DataType;
use crate::tensor::raw::{Described, data_type};
use crate::tensor::shape::Shape;
use crate::tensor::signature::Signature;
use crate::tensor::value::{Element, NamedTensor, Tensor};

/// The inputs of a request: all of them raw, or each in its own field.
pub fn inputs(
    inputs: Vec<InferInputTensor>,
    raw: Vec<Bytes>,
    signature: &Signature,
    most_elements: usize,
) -> Result<Vec<NamedTensor>> {
    if raw.is_empty() {
        let typed = inputs.into_iter().map(|input| {
            let described = described(&input, signature)?.bounded(most_elements)?;
            let contents = input.contents.unwrap_or_default();
            let dtype = described.dtype();
            described.named(typed(dtype, described.shape(), contents))
        });
        return typed.collect();
    }
    if raw.len() != inputs.len() {
        return Err(Error::invalid(format!(
            "raw_input_contents: expected one for each input, in their order: {} of them, got {}",
            inputs.len(),
            raw.len()
        )));
    }
    let inputs = inputs.iter().zip(raw).map(|(input, raw)| {
        let contents = input.contents.as_ref();
        if contents.is_some_and(|contents| filled(contents).next().is_some()) {
            return Err(Error::invalid(format!(
                "input '{}': 'contents' beside raw_input_contents; expected one of them for all inputs",
                input.name
            )));
        }
        described(input, signature)?.raw(raw, most_elements)
    });
    inputs.collect()
}

/// What it costs to read a request's tensors, as [`cost`] counts.
pub fn cost_of_reading(inputs: &[InferInputTensor], raw: &[Bytes]) -> usize {
    let raw: usize = raw.iter().map(Bytes::len).sum();
    let typed = inputs.iter().filter_map(|input| input.contents.as_ref());
    let elements: usize = typed.flat_map(filled).map(|(_, count)| count).sum();
    cost(elements * size_of::<u64>(), raw)
}

/// What a request's tensors take, those of typed fields once more as what they are made into. Raw ones are slices of
/// the message.
pub fn taken_by(inputs: &[InferInputTensor], raw: &[Bytes]) -> usize {
    let raw: usize = raw.iter().map(Bytes::len).sum();
    let typed = inputs.iter().filter_map(|input| input.contents.as_ref());
    let typed = typed.map(|contents| {
        let elements: usize = filled(contents).map(|(_, count)| count).sum();
        let strings = contents.bytes_contents.iter();
        let texts: usize = strings.map(|text| size_of::<Bytes>() + text.len()).sum();
        elements * size_of::<u64>() + texts
    });
    raw + 2 * typed.sum::<usize>()
}

fn described<'s>(input: &InferInputTensor, signature: &'s Signature) -> Result<Described<'s>> {
    let mut parameters = InputParameters::default();
    for (name, value) in &input.parameters {
        parameters.set(name, value.value())?;
    }
    let spec = signature.input(&input.name)?;
    Described::new(
        spec,
        data_type(Some(&input.name), &input.datatype)?,
        &input.shape,
    )
}

/// The fields that hold something, and how many elements that is.
fn filled(contents: &InferTensorContents) -> impl Iterator<Item = (&'static str, usize)> + use<> {
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    let fields = [
        ("bool_contents", bool_contents.len()),
        ("int_contents", int_contents.len()),
        ("int64_contents", int64_contents.len()),
        ("uint_contents", uint_contents.len()),
        ("uint64_contents", uint64_contents.len()),
        ("fp32_contents", fp32_contents.len()),
        ("fp64_contents", fp64_contents.len()),
        ("bytes_contents", bytes_contents.len()),
    ];
    fields.into_iter().filter(|(_, count)| *count > 0)
}

/// The field that elements of this type come in, where they have one.
fn field(dtype: DataType) -> Option<&'static str> {
    match dtype {
        DataType::Bool => Some("bool_contents"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => Some("int_contents"),
        DataType::Int64 => Some("int64_contents"),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Some("uint_contents"),
        DataType::UInt64 => Some("uint64_contents"),
        DataType::Fp32 => Some("fp32_contents"),
        DataType::Fp64 => Some("fp64_contents"),
        DataType::Bytes => Some("bytes_contents"),
        DataType::Fp16 | DataType::Bf16 => None,
    }
}

fn typed(dtype: DataType, shape: &Shape, contents: InferTensorContents) -> Result<Tensor> {
    let Some(field) = field(dtype) else {
        return Err(Error::invalid(format!(
            "{dtype} has no field in 'contents'; send it in raw_input_contents"
        )));
    };
    let given: Vec<_> = filled(&contents).collect();
    if let Some((other, _)) = given.iter().find(|(name, _)| *name != field) {
        return Err(Error::invalid(format!(
            "expected {field} for {dtype}, got {other}"
        )));
    }
    let count = given.first().map_or(0, |(_, count)| *count);
    if shape.elements() != count {
        return Err(Error::invalid(format!(
            "shape {shape} needs {} elements, {field} has {count}",
            shape.elements()
        )));
    }
    let shape = shape.clone();
    match dtype {
        DataType::Bool => {
            let bytes: Vec<u8> = contents.bool_contents.into_iter().map(u8::from).collect();
            Tensor::new(dtype, shape, bytes.into())
        }
        DataType::Int8 => narrowed::<_, i8>(field, shape, contents.int_contents),
        DataType::Int16 => narrowed::<_, i16>(field, shape, contents.int_contents),
        DataType::Int32 => Tensor::from_vec(shape, contents.int_contents),
        DataType::Int64 => Tensor::from_vec(shape, contents.int64_contents),
        DataType::UInt8 => narrowed::<_, u8>(field, shape, contents.uint_contents),
        DataType::UInt16 => narrowed::<_, u16>(field, shape, contents.uint_contents),
        DataType::UInt32 => Tensor::from_vec(shape, contents.uint_contents),
        DataType::UInt64 => Tensor::from_vec(shape, contents.uint64_contents),
        DataType::Fp32 => Tensor::from_vec(shape, contents.fp32_contents),
        DataType::Fp64 => Tensor::from_vec(shape, contents.fp64_contents),
        DataType::Bytes => Tensor::from_strings(shape, contents.bytes_contents),
        DataType::Fp16 | DataType::Bf16 => Err(Error::invalid("there is no field for it")),
    }
}

/// Elements that come in a wider field than their own.
fn narrowed<W, N>(field: &str, shape: Shape, values: Vec<W>) -> Result<Tensor>
where
    W: Copy + Display,
    N: Element + TryFrom<W>,
{
    let narrow = |(index, value): (usize, W)| {
        N::try_from(value).map_err(|_| {
            Error::invalid(format!(
                "{field}[{index}] is {value}, which is no {}",
                N::DTYPE
            ))
        })
    };
    let narrow = values.into_iter().enumerate().map(narrow);
    Tensor::from_vec(shape, narrow.collect::<Result<Vec<N>>>()?)
}

/// Outputs as they are described and as they are written.
pub fn outputs(outputs: Vec<NamedTensor>) -> (Vec<InferOutputTensor>, Vec<Bytes>) {
    let output = |NamedTensor { name, tensor }: NamedTensor| {
        let dims = tensor.shape().dims().iter();
        let described = InferOutputTensor {
            name,
            datatype: tensor.dtype().name().to_owned(),
            shape: dims.map(|&dim| dim as i64).collect(),
            ..InferOutputTensor::default()
        };
        (described, tensor.data().clone())
    };
    outputs.into_iter().map(output).unzip()
}
