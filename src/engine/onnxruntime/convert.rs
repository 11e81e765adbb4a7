//! Tensors of the wire ⇄ values of ONNX Runtime. No copy either way, but for strings and bytes that are not aligned.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use bytemuck::NoUninit;
use bytes::Bytes;
use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, Tensor, TensorRef};

use super::message;
use super::shared::SharedSession;
use crate::error::{Error, Result};
use crate::tensor::dtype::DataType;
use crate::tensor::shape::Shape;
use crate::tensor::signature::TensorSpec;
use crate::tensor::value::{Element, Tensor as WireTensor};

/// Lends a checked input to ONNX Runtime.
pub fn input(tensor: &WireTensor) -> Result<SessionInputValue<'_>> {
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
        DataType::Bf16 => numbers::<bf16>(tensor),
        DataType::Fp32 => numbers::<f32>(tensor),
        DataType::Fp64 => numbers::<f64>(tensor),
        DataType::Bytes => strings(tensor),
    }
}

fn numbers<T: Element + PrimitiveTensorElementType + Debug>(
    tensor: &WireTensor,
) -> Result<SessionInputValue<'_>> {
    let dims = tensor.shape().dims();
    let value = match tensor.elements::<T>() {
        Cow::Borrowed(elements) => TensorRef::from_array_view((dims, elements)).map(Into::into),
        Cow::Owned(elements) => Tensor::from_array((dims.to_vec(), elements)).map(Into::into),
    };
    value.map_err(message::failed)
}

fn truths(tensor: &WireTensor) -> Result<SessionInputValue<'_>> {
    let truths: &[bool] = bytemuck::checked::try_cast_slice(tensor.data())
        .map_err(|_| Error::invalid("a BOOL element must be 0 or 1"))?;
    let value = TensorRef::from_array_view((tensor.shape().dims(), truths));
    value.map(Into::into).map_err(message::failed)
}

fn strings(tensor: &WireTensor) -> Result<SessionInputValue<'_>> {
    let strings = tensor
        .strings()
        .map(text)
        .collect::<Result<Vec<String>>>()?;
    let value = Tensor::from_string_array((tensor.shape().dims(), &*strings));
    value.map(Into::into).map_err(message::failed)
}

fn text(bytes: &[u8]) -> Result<String> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        Error::invalid("a BYTES element is not UTF-8, as this model's strings must be")
    })?;
    match text.contains('\0') {
        false => Ok(text.to_owned()),
        true => Err(Error::invalid(
            "a BYTES element has a zero byte in it, which this model's engine cannot take",
        )),
    }
}

/// Takes an output over, if it is what the signature declares. `inputs` are those of the run: a model may hand one
/// through, whose memory is only lent.
pub fn output(
    spec: &TensorSpec,
    value: Option<DynValue>,
    session: &Arc<SharedSession>,
    inputs: &[SessionInputValue<'_>],
) -> Result<WireTensor> {
    let wrong = |got: String| {
        let (name, dtype) = (&spec.name, spec.dtype);
        Error::internal(format!(
            "ONNX Runtime gave {got} for output '{name}', which is declared as {dtype} of shape {:?}",
            spec.wire_shape()
        ))
    };
    let value = value.ok_or_else(|| wrong("nothing".to_owned()))?;
    let dims = value.dtype().tensor_shape().map(|shape| shape.to_vec());
    let dims = dims.ok_or_else(|| wrong(value.dtype().to_string()))?;
    let fits = spec
        .dims
        .as_ref()
        .is_none_or(|declared| declared.len() == dims.len())
        && spec
            .columns
            .as_ref()
            .is_none_or(|columns| dims.last() == Some(&(columns.len() as i64)));
    if !fits {
        return Err(wrong(format!("shape {dims:?}")));
    }
    let shape = dims.iter().map(|length| usize::try_from(*length));
    let shape = Shape::new(
        shape
            .collect::<Result<_, _>>()
            .map_err(|_| wrong(format!("shape {dims:?}")))?,
    )?;
    if spec.dtype == DataType::Bytes {
        let strings = value
            .try_extract_strings()
            .map_err(|_| wrong(value.dtype().to_string()));
        return WireTensor::from_strings(shape, strings?.1);
    }
    let bytes = elements(spec.dtype, &value).map_err(|_| wrong(value.dtype().to_string()))?;
    let start = bytes.as_ptr();
    let is_lent = |input: &SessionInputValue<'_>| {
        elements(spec.dtype, input).is_ok_and(|lent| lent.as_ptr_range().contains(&start))
    };
    let data = match inputs.iter().any(is_lent) {
        true => Bytes::copy_from_slice(bytes),
        false => Bytes::from_owner(Output {
            value,
            dtype: spec.dtype,
            _session: session.clone(),
        }),
    };
    WireTensor::new(spec.dtype, shape, data)
}

/// The bytes of a value of that data type.
fn elements(dtype: DataType, value: &DynValue) -> ort::Result<&[u8]> {
    fn of<T: PrimitiveTensorElementType + NoUninit>(value: &DynValue) -> ort::Result<&[u8]> {
        Ok(bytemuck::cast_slice(value.try_extract_tensor::<T>()?.1))
    }
    match dtype {
        DataType::Bool => of::<bool>(value),
        DataType::UInt8 => of::<u8>(value),
        DataType::UInt16 => of::<u16>(value),
        DataType::UInt32 => of::<u32>(value),
        DataType::UInt64 => of::<u64>(value),
        DataType::Int8 => of::<i8>(value),
        DataType::Int16 => of::<i16>(value),
        DataType::Int32 => of::<i32>(value),
        DataType::Int64 => of::<i64>(value),
        DataType::Fp16 => of::<f16>(value),
        DataType::Bf16 => of::<bf16>(value),
        DataType::Fp32 => of::<f32>(value),
        DataType::Fp64 => of::<f64>(value),
        DataType::Bytes => Err(ort::Error::new("strings have no bytes to lend")),
    }
}

/// Keeps ONNX Runtime's value alive for as long as the answer reads its bytes, and the session for as long: an output
/// may be one of its weights.
struct Output {
    value: DynValue,
    dtype: DataType,
    _session: Arc<SharedSession>,
}

impl AsRef<[u8]> for Output {
    fn as_ref(&self) -> &[u8] {
        // It was read before it was put here.
        elements(self.dtype, &self.value).unwrap_or_default()
    }
}
