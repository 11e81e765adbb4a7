//! Tensors of the wire ⇄ tensors of rten, which has f32, i32, i8 and u8 alone.
//!
//! Other whole numbers and booleans become i32, and a number that does not fit is an error; FP16 and BF16 become f32:
//! the model then computes with more precision than it asks for. Answers go back into the declared types.

use half::{bf16, f16};
use rten::Value;
use rten_tensor::Tensor as RtenTensor;
use rten_tensor::prelude::*;

use crate::error::{Error, Result};
use crate::tensor::dtype::DataType;
use crate::tensor::shape::Shape;
use crate::tensor::signature::TensorSpec;
use crate::tensor::value::{Element, Tensor};

/// Fails for data types that rten cannot compute in.
pub fn refuse_type(spec: &TensorSpec) -> Result<()> {
    let why = match spec.dtype {
        DataType::Fp64 => "rten computes in single precision",
        DataType::Bytes => "rten has no strings",
        _ => return Ok(()),
    };
    let TensorSpec { name, dtype, .. } = spec;
    Err(Error::unimplemented(format!(
        "'{name}' is of datatype {dtype}, and {why}"
    )))
}

/// Copies a checked input into a tensor that rten owns.
pub fn input(spec: &TensorSpec, tensor: &Tensor) -> Result<Value> {
    let dims = tensor.shape().dims();
    match tensor.dtype() {
        DataType::Fp32 => value(dims, tensor.elements::<f32>().into_owned()),
        DataType::Fp16 => value(
            dims,
            tensor
                .elements::<f16>()
                .iter()
                .map(|value| value.to_f32())
                .collect(),
        ),
        DataType::Bf16 => value(
            dims,
            tensor
                .elements::<bf16>()
                .iter()
                .map(|value| value.to_f32())
                .collect(),
        ),
        DataType::Int8 => value(dims, tensor.elements::<i8>().into_owned()),
        DataType::UInt8 => value(dims, tensor.elements::<u8>().into_owned()),
        DataType::Int32 => value(dims, tensor.elements::<i32>().into_owned()),
        DataType::Bool => value(
            dims,
            tensor.data().iter().map(|byte| i32::from(*byte)).collect(),
        ),
        DataType::Int16 => narrowed::<i16>(spec, tensor),
        DataType::UInt16 => narrowed::<u16>(spec, tensor),
        DataType::UInt32 => narrowed::<u32>(spec, tensor),
        DataType::UInt64 => narrowed::<u64>(spec, tensor),
        DataType::Int64 => narrowed::<i64>(spec, tensor),
        DataType::Fp64 | DataType::Bytes => Err(unexpected(spec)),
    }
}

fn narrowed<T: Element + Into<i128>>(spec: &TensorSpec, tensor: &Tensor) -> Result<Value> {
    let too_large = |number: i128| {
        Error::invalid(format!(
            "input '{}': {number} does not fit 32 bits, in which the engine rten, which serves this model, computes whole numbers",
            spec.name
        ))
    };
    let narrow = |number: &T| {
        let number = (*number).into();
        i32::try_from(number).map_err(|_| too_large(number))
    };
    let numbers = tensor.elements::<T>();
    value(
        tensor.shape().dims(),
        numbers.iter().map(narrow).collect::<Result<_>>()?,
    )
}

fn value<T>(dims: &[usize], elements: Vec<T>) -> Result<Value>
where
    Value: From<RtenTensor<T>>,
{
    Value::from_shape(dims, elements).map_err(|error| {
        Error::internal("rten takes another number of elements").with_source(error)
    })
}

/// Takes an output over in the type that the signature declares.
pub fn output(spec: &TensorSpec, value: Value) -> Result<Tensor> {
    match value {
        Value::FloatTensor(floats) => {
            let (shape, floats) = parts(floats)?;
            match spec.dtype {
                DataType::Fp32 => Tensor::from_vec(shape, floats),
                DataType::Fp16 => {
                    Tensor::from_vec(shape, floats.into_iter().map(f16::from_f32).collect())
                }
                DataType::Bf16 => {
                    Tensor::from_vec(shape, floats.into_iter().map(bf16::from_f32).collect())
                }
                _ => Err(unexpected(spec)),
            }
        }
        Value::Int32Tensor(numbers) => {
            let (shape, numbers) = parts(numbers)?;
            match spec.dtype {
                DataType::Int32 => Tensor::from_vec(shape, numbers),
                DataType::Int64 => widened::<i64>(spec, shape, &numbers),
                DataType::UInt64 => widened::<u64>(spec, shape, &numbers),
                DataType::UInt32 => widened::<u32>(spec, shape, &numbers),
                DataType::Int16 => widened::<i16>(spec, shape, &numbers),
                DataType::UInt16 => widened::<u16>(spec, shape, &numbers),
                DataType::Bool => {
                    let bytes: Vec<u8> = numbers
                        .iter()
                        .map(|number| u8::from(*number != 0))
                        .collect();
                    Tensor::new(DataType::Bool, shape, bytes.into())
                }
                _ => Err(unexpected(spec)),
            }
        }
        Value::Int8Tensor(numbers) if spec.dtype == DataType::Int8 => {
            let (shape, numbers) = parts(numbers)?;
            Tensor::from_vec(shape, numbers)
        }
        Value::UInt8Tensor(numbers) if spec.dtype == DataType::UInt8 => {
            let (shape, numbers) = parts(numbers)?;
            Tensor::from_vec(shape, numbers)
        }
        _ => Err(unexpected(spec)),
    }
}

fn parts<T: Clone>(tensor: RtenTensor<T>) -> Result<(Shape, Vec<T>)> {
    let shape = Shape::new(tensor.shape().to_vec())?;
    Ok((shape, tensor.into_data()))
}

/// Numbers in the declared width. The ends of 32 bits are where rten puts whatever does not fit, so that they are not
/// believed.
fn widened<T: Element + TryFrom<i32>>(
    spec: &TensorSpec,
    shape: Shape,
    numbers: &[i32],
) -> Result<Tensor> {
    let widen = |number: &i32| match number {
        &i32::MIN | &i32::MAX => Err(Error::unimplemented(format!(
            "output '{}' has a number that may not fit 32 bits, in which the engine rten, which serves this model, computes whole numbers",
            spec.name
        ))),
        number => T::try_from(*number).map_err(|_| unexpected(spec)),
    };
    Tensor::from_vec(shape, numbers.iter().map(widen).collect::<Result<_>>()?)
}

fn unexpected(spec: &TensorSpec) -> Error {
    Error::internal(format!("rten has no {} for '{}'", spec.dtype, spec.name))
}
