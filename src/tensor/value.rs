//! A tensor: a data type, a shape and the bytes, little-endian and row-major.
//!
//! `BYTES` elements are stored as on the binary wire: a `u32` length, then that many bytes. A [`Tensor`] always
//! holds exactly as many elements as its shape says, and a `BOOL` only 0 and 1.

use std::borrow::Cow;

use bytemuck::Pod;
use bytes::Bytes;
use half::{bf16, f16};

use super::dtype::DataType;
use super::shape::Shape;
use crate::error::{Error, Result};

/// A checked tensor. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    dtype: DataType,
    shape: Shape,
    data: Bytes,
}

/// A tensor and the name by which a model knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    pub name: String,
    pub tensor: Tensor,
}

/// A fixed-width element and the data type it stands for.
pub trait Element: Pod + Send + Sync {
    /// The data type that a tensor of these elements has.
    const DTYPE: DataType;
}

macro_rules! elements {
    ($($element:ty => $dtype:ident),* $(,)?) => {
        $(impl Element for $element { const DTYPE: DataType = DataType::$dtype; })*
    };
}

elements! {
    u8 => UInt8, u16 => UInt16, u32 => UInt32, u64 => UInt64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    f16 => Fp16, bf16 => Bf16, f32 => Fp32, f64 => Fp64,
}

impl Tensor {
    /// A tensor over bytes as the binary wire has them; fails unless they are exactly what the shape needs.
    pub fn new(dtype: DataType, shape: Shape, data: Bytes) -> Result<Tensor> {
        let elements = shape.elements();
        match dtype.width() {
            Some(width) if elements.checked_mul(width) == Some(data.len()) => {}
            Some(width) => {
                let (needed, got) = (elements as u128 * width as u128, data.len());
                return Err(Error::invalid(format!(
                    "expected {needed} bytes for {dtype} of shape {shape}, got {got}"
                )));
            }
            None if count_strings(&data) == Some(elements) => {}
            None => {
                return Err(Error::invalid(format!(
                    "expected {elements} elements of {dtype}, each a length of 4 bytes and then so many bytes; the {} bytes are not those",
                    data.len()
                )));
            }
        }
        if dtype == DataType::Bool && data.iter().any(|&byte| byte > 1) {
            return Err(Error::invalid("a BOOL element must be 0 or 1"));
        }
        Ok(Tensor { dtype, shape, data })
    }

    /// A tensor of parts of others, of which it is known that they fit.
    pub(super) fn of_parts(dtype: DataType, shape: Shape, data: Bytes) -> Tensor {
        Tensor { dtype, shape, data }
    }

    /// A tensor that takes over a vector of elements without copying it.
    pub fn from_vec<T: Element>(shape: Shape, elements: Vec<T>) -> Result<Tensor> {
        Tensor::new(T::DTYPE, shape, Bytes::from_owner(OwnedElements(elements)))
    }

    /// A `BYTES` tensor of these strings.
    pub fn from_strings<S: AsRef<[u8]>>(
        shape: Shape,
        strings: impl IntoIterator<Item = S>,
    ) -> Result<Tensor> {
        let mut data = Vec::new();
        for string in strings {
            push_string(&mut data, string.as_ref())?;
        }
        Tensor::new(DataType::Bytes, shape, data.into())
    }

    /// The element type.
    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// The dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bytes, as the binary wire has them.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The elements; borrowed where the bytes are aligned for them, else copied.
    ///
    /// # Panics
    /// When `T` does not stand for this tensor's data type; a caller dispatches on [`Tensor::dtype`] first.
    pub fn elements<T: Element>(&self) -> Cow<'_, [T]> {
        assert_eq!(
            T::DTYPE,
            self.dtype,
            "elements are read by the tensor's own data type"
        );
        match bytemuck::try_cast_slice(&self.data) {
            Ok(elements) => Cow::Borrowed(elements),
            Err(_) => Cow::Owned(bytemuck::pod_collect_to_vec(&self.data)),
        }
    }

    /// The strings of a `BYTES` tensor, in row-major order; nothing for other types.
    pub fn strings(&self) -> Strings<'_> {
        self.strings_from(0)
    }

    /// The same, from the one on that begins at this byte.
    pub(super) fn strings_from(&self, at: usize) -> Strings<'_> {
        let rest = match self.dtype {
            DataType::Bytes => self.data.get(at..).unwrap_or_default(),
            _ => &[],
        };
        Strings { rest }
    }
}

/// The bytes that tensors hold together.
pub fn bytes_of(tensors: &[Tensor]) -> usize {
    tensors.iter().map(|tensor| tensor.data().len()).sum()
}

/// Appends one string in the binary wire's form: its length as a `u32`, then its bytes.
pub fn push_string(data: &mut Vec<u8>, string: &[u8]) -> Result<()> {
    let length = u32::try_from(string.len())
        .map_err(|_| Error::too_large("a BYTES element is at most 4 GiB long"))?;
    data.extend_from_slice(&length.to_le_bytes());
    data.extend_from_slice(string);
    Ok(())
}

/// Walks the strings of a `BYTES` tensor.
#[derive(Debug, Clone)]
pub struct Strings<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (string, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some(string)
    }
}

fn count_strings(data: &[u8]) -> Option<usize> {
    let mut strings = Strings { rest: data };
    let count = strings.by_ref().count();
    strings.rest.is_empty().then_some(count)
}

struct OwnedElements<T>(Vec<T>);

impl<T: Pod> AsRef<[u8]> for OwnedElements<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[usize]) -> Shape {
        Shape::new(dims.to_vec()).expect("small shapes fit")
    }

    #[test]
    fn a_vector_is_taken_over_and_read_back() {
        let tensor =
            Tensor::from_vec(shape(&[2, 1]), vec![1.5f32, -2.0]).expect("two elements fit");
        assert_eq!(tensor.dtype(), DataType::Fp32);
        assert_eq!(*tensor.elements::<f32>(), [1.5, -2.0]);
    }

    #[test]
    fn unaligned_bytes_are_copied_and_read_right() {
        let bytes = Bytes::from(vec![0u8, 1, 0, 0, 0, 2, 0, 0, 0]).slice(1..);
        let tensor = Tensor::new(DataType::Int32, shape(&[2]), bytes).expect("eight bytes fit");
        assert_eq!(*tensor.elements::<i32>(), [1, 2]);
    }

    #[test]
    fn bytes_that_do_not_fit_the_shape_are_refused() {
        assert!(Tensor::new(DataType::Fp32, shape(&[2]), Bytes::from_static(&[0; 7])).is_err());
        assert!(Tensor::new(DataType::Bool, shape(&[1]), Bytes::from_static(&[2])).is_err());
        assert!(
            Tensor::new(
                DataType::Bytes,
                shape(&[1]),
                Bytes::from_static(&[9, 0, 0, 0, 1])
            )
            .is_err()
        );
        assert!(
            Tensor::new(
                DataType::Bytes,
                shape(&[2]),
                Bytes::from_static(&[0, 0, 0, 0])
            )
            .is_err()
        );
    }

    #[test]
    fn strings_keep_their_bytes() {
        let tensor =
            Tensor::from_strings(shape(&[3]), ["a", "", "žlutý"]).expect("three strings fit");
        let strings: Vec<_> = tensor.strings().collect();
        assert_eq!(strings, ["a".as_bytes(), b"", "žlutý".as_bytes()]);
    }
}
