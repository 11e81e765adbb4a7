//! Tensors of the wire ⇄ tensors of tract. One copy in; none out where the element types agree.

use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};
use tract_onnx::prelude::*;

use super::run::failed;
use crate::error::{Error, Result};
use crate::tensor::dtype::DataType;
use crate::tensor::shape::Shape;
use crate::tensor::signature::TensorSpec;
use crate::tensor::value::{Element, Tensor as WireTensor};

/// tract's name for a data type; it has no bfloat16, for which it computes in FP32.
pub fn to_tract(dtype: DataType) -> DatumType {
    match dtype {
        DataType::Bool => DatumType::Bool,
        DataType::UInt8 => DatumType::U8,
        DataType::UInt16 => DatumType::U16,
        DataType::UInt32 => DatumType::U32,
        DataType::UInt64 => DatumType::U64,
        DataType::Int8 => DatumType::I8,
        DataType::Int16 => DatumType::I16,
        DataType::Int32 => DatumType::I32,
        DataType::Int64 => DatumType::I64,
        DataType::Fp16 => DatumType::F16,
        DataType::Fp32 | DataType::Bf16 => DatumType::F32,
        DataType::Fp64 => DatumType::F64,
        DataType::Bytes => DatumType::String,
    }
}

/// Copies a checked input into a tensor that tract owns.
pub fn input(tensor: &WireTensor) -> Result<Tensor> {
    match tensor.dtype() {
        DataType::Bool => truths(tensor),
        DataType::UInt8 => numbers::<u8>(tensor),
        DataType::UInt16 => numbers::<u16>(tensor),
        DataType::UInt32 => numbers::<u32>(tensor),
        DataType::UInt64 => numbers::<u64>(tensor),
        DataType::Int8 => numbers::<i8>(tensor),
        DataType::Int16 => numbers::<i16>(tensor),
        DataType::Int32 => numbers::<i32>(tensor),
        DataType::Int64 => numbers::<i64>(tensor),
        DataType::Fp16 => numbers::<f16>(tensor),
        DataType::Bf16 => wide(tensor),
        DataType::Fp32 => numbers::<f32>(tensor),
        DataType::Fp64 => numbers::<f64>(tensor),
        DataType::Bytes => strings(tensor),
    }
}

fn numbers<T: Element + Datum + Copy>(tensor: &WireTensor) -> Result<Tensor> {
    Tensor::from_shape(tensor.shape().dims(), &tensor.elements::<T>()).map_err(failed)
}

fn truths(tensor: &WireTensor) -> Result<Tensor> {
    let mut copy = Tensor::zero_dt(DatumType::Bool, tensor.shape().dims()).map_err(failed)?;
    copy.as_bytes_mut().copy_from_slice(tensor.data());
    Ok(copy)
}

fn wide(tensor: &WireTensor) -> Result<Tensor> {
    let elements = tensor.elements::<bf16>();
    let wide: Vec<f32> = elements.iter().map(|value| value.to_f32()).collect();
    Tensor::from_shape(tensor.shape().dims(), &wide).map_err(failed)
}

fn strings(tensor: &WireTensor) -> Result<Tensor> {
    let strings = tensor
        .strings()
        .map(|bytes| String::from_utf8(bytes.to_vec()));
    let strings = strings.collect::<Result<Vec<_>, _>>();
    let strings = strings.map_err(|_| {
        Error::invalid("a BYTES element is not UTF-8, as this model's strings must be")
    })?;
    let array = tract_ndarray::ArrayD::from_shape_vec(tensor.shape().dims(), strings);
    Ok(array.map_err(|error| failed(error.into()))?.into_tensor())
}

/// Wraps an output in the type that the signature declares, without copying where tract's own type is the same.
pub fn output(spec: &TensorSpec, value: TValue) -> Result<WireTensor> {
    let dtype = to_tract(spec.dtype);
    let value = value.into_arc_tensor();
    let value = match value.datum_type() == dtype {
        true => value,
        false => Arc::new(value.cast_to_dt(dtype).map_err(failed)?.into_owned()),
    };
    let shape = Shape::new(value.shape().to_vec())?;
    if dtype == DatumType::String {
        let view = value.try_as_plain_ram().map_err(failed)?;
        return WireTensor::from_strings(shape, view.as_slice::<String>().map_err(failed)?);
    }
    if spec.dtype == DataType::Bf16 {
        let view = value.try_as_plain_ram().map_err(failed)?;
        let wide = view.as_slice::<f32>().map_err(failed)?;
        return WireTensor::from_vec(
            shape,
            wide.iter().map(|value| bf16::from_f32(*value)).collect(),
        );
    }
    WireTensor::new(spec.dtype, shape, Bytes::from_owner(SharedOutput(value)))
}

/// Keeps tract's tensor alive for as long as the answer reads its bytes.
struct SharedOutput(Arc<Tensor>);

impl AsRef<[u8]> for SharedOutput {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}
