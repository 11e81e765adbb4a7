//! Several requests as one: tensors put together by their first dimension, and taken apart again by numbers of rows.
//!
//! Taking apart copies nothing: the parts are slices of the same bytes. Only requests of one [`ShapeClass`] fit
//! together, those whose dimensions are equal but for the rows.
//!
//! ```
//! use onnxd::tensor::batch::{concat, split};
//! use onnxd::tensor::{shape::Shape, value::Tensor};
//!
//! let one = Tensor::from_vec(Shape::new(vec![1, 2])?, vec![1.0f32, 2.0])?;
//! let two = Tensor::from_vec(Shape::new(vec![2, 2])?, vec![3.0f32, 4.0, 5.0, 6.0])?;
//! let both = concat(&[&one, &two])?;
//! assert_eq!(both.shape().dims(), [3, 2]);
//! assert_eq!(split(&both, &[1, 2])?, [one, two]);
//! # Ok::<(), onnxd::error::Error>(())
//! ```

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::dtype::DataType;
use super::shape::{Dims, Shape};
use super::signature::CheckedInputs;
use super::value::Tensor;
use crate::error::{Error, Result};

/// What the inputs of requests that may share a run have in common: every dimension but the rows. Cloning shares it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ShapeClass(Arc<[usize]>);

/// Stands after the dimensions of each input: `[2,3]` and `[4]` are not `[2]` and `[3,4]`.
const END: usize = usize::MAX;

impl ShapeClass {
    /// The class of inputs whose first dimension counts rows.
    pub fn of(inputs: &CheckedInputs) -> ShapeClass {
        ShapeClass::from(inputs, 1)
    }

    /// The class of inputs that are one row, whatever their shape: all their dimensions.
    pub fn of_one_row(inputs: &CheckedInputs) -> ShapeClass {
        ShapeClass::from(inputs, 0)
    }

    fn from(inputs: &CheckedInputs, first: usize) -> ShapeClass {
        let dims = inputs.tensors().iter().flat_map(|tensor| {
            let dims = tensor.shape().dims().get(first..).unwrap_or_default();
            dims.iter().copied().chain([END])
        });
        ShapeClass(dims.collect())
    }

    /// Whether both are known to be the same without looking at them.
    pub fn is_shared_with(&self, other: &ShapeClass) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for ShapeClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ShapeClass {
    /// The dimensions of each input, such as `[3,224,224]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inputs = self.0.split(|dim| *dim == END);
        // What follows the last mark is no input.
        for (at, dims) in inputs.take(self.inputs()).enumerate() {
            if at > 0 {
                f.write_str(" ")?;
            }
            Dims(dims).fmt(f)?;
        }
        Ok(())
    }
}

impl ShapeClass {
    fn inputs(&self) -> usize {
        self.0.iter().filter(|dim| **dim == END).count()
    }
}

/// How many rows a tensor has by its first dimension; a scalar has none.
pub fn rows(tensor: &Tensor) -> Option<usize> {
    tensor.shape().dims().first().copied()
}

/// One tensor of the rows of all, in order. They must be of one type, and equal in every dimension but the first.
pub fn concat(tensors: &[&Tensor]) -> Result<Tensor> {
    let Some((first, others)) = tensors.split_first() else {
        return Err(Error::internal("there are no tensors to put together"));
    };
    let of = |tensor: &Tensor| -> Option<(DataType, Vec<usize>)> {
        let (_, rest) = tensor.shape().dims().split_first()?;
        Some((tensor.dtype(), rest.to_vec()))
    };
    let common = of(first);
    let Some((dtype, rest)) = &common else {
        return Err(Error::internal("a scalar has no rows"));
    };
    if let Some(other) = others.iter().find(|other| of(other) != common) {
        return Err(Error::internal(format!(
            "rows of {dtype}{} and of {}{} cannot be put together",
            first.shape(),
            other.dtype(),
            other.shape()
        )));
    }
    if others.is_empty() {
        return Ok((*first).clone());
    }
    let mut dims = vec![tensors.iter().filter_map(|tensor| rows(tensor)).sum()];
    dims.extend(rest);
    let parts: Vec<&[u8]> = tensors.iter().map(|tensor| &tensor.data()[..]).collect();
    let data = Bytes::from(parts.concat());
    Ok(Tensor::of_parts(*dtype, Shape::new(dims)?, data))
}

/// The tensor's rows, shared out: so many to each. They must add up to all of them.
pub fn split(tensor: &Tensor, counts: &[usize]) -> Result<Vec<Tensor>> {
    let (dims, data) = (tensor.shape().dims(), tensor.data());
    if rows(tensor) != Some(counts.iter().sum()) {
        return Err(Error::internal(format!(
            "a tensor of shape {} has not the rows of {counts:?}",
            tensor.shape()
        )));
    }
    let row_elements = dims[1..].iter().product::<usize>();
    let mut ends = ends(tensor);
    let (mut from, mut parts) = (0, Vec::with_capacity(counts.len()));
    for &count in counts {
        let to = ends.after(from, count * row_elements);
        let mut dims = dims.to_vec();
        dims[0] = count;
        let part = data.slice(from..to);
        parts.push(Tensor::of_parts(tensor.dtype(), Shape::new(dims)?, part));
        from = to;
    }
    Ok(parts)
}

/// Finds where elements end among a tensor's bytes.
enum Ends<'a> {
    Every(usize),
    /// The bytes must be walked: each string has a length of its own.
    Strings(&'a Tensor),
}

fn ends(tensor: &Tensor) -> Ends<'_> {
    match tensor.dtype().width() {
        Some(width) => Ends::Every(width),
        None => Ends::Strings(tensor),
    }
}

impl Ends<'_> {
    /// The end of so many elements that begin at `from`.
    fn after(&mut self, from: usize, elements: usize) -> usize {
        match self {
            Ends::Every(width) => from + elements * *width,
            Ends::Strings(tensor) => {
                let strings = tensor.strings_from(from).take(elements);
                from + strings.map(|string| 4 + string.len()).sum::<usize>()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::sample::{Integers, Sample};
    use crate::tensor::signature::{Dim, Signature, TensorSpec};

    fn made_up(dtype: DataType, rows: usize, seed: u64) -> Tensor {
        let spec = TensorSpec {
            name: "x".into(),
            dtype,
            dims: Some(vec![Dim::Dynamic(None), Dim::Fixed(3)]),
            columns: None,
        };
        let sample = Sample {
            rows,
            seed,
            integers: Integers::Bytes,
            ..Sample::ZEROS
        };
        let signature = Signature {
            inputs: vec![spec],
            outputs: Vec::new(),
        };
        let inputs = sample.inputs(&signature).expect("made-up inputs fit");
        inputs.tensors()[0].clone()
    }

    fn strings(rows: &[[&str; 2]]) -> Tensor {
        let shape = Shape::new(vec![rows.len(), 2]).expect("small shapes fit");
        Tensor::from_strings(shape, rows.iter().flatten()).expect("the strings fit")
    }

    proptest! {
        /// Of every type and any numbers of rows, none among them.
        #[test]
        fn what_was_put_together_comes_apart_again(
            dtype in 0..DataType::ALL.len(),
            counts in prop::collection::vec(0usize..4, 1..6),
        ) {
            let dtype = DataType::ALL[dtype];
            let made: Vec<_> = counts.iter().enumerate().map(|(at, rows)| made_up(dtype, *rows, at as u64 + 1)).collect();
            let both = concat(&made.iter().collect::<Vec<_>>()).expect("they fit together");
            prop_assert_eq!(rows(&both), Some(counts.iter().sum()));
            // What comes out is as valid as what is read from a wire.
            Tensor::new(dtype, both.shape().clone(), both.data().clone()).expect("it is valid");
            let apart = split(&both, &counts).expect("the rows are there");
            prop_assert_eq!(apart, made);
        }
    }

    #[test]
    fn strings_of_any_length_keep_to_their_rows() {
        let (one, two) = (
            strings(&[["a", ""]]),
            strings(&[["", "žlutý"], ["bcd", "e"]]),
        );
        let both = concat(&[&one, &two]).expect("they fit together");
        assert_eq!(both, strings(&[["a", ""], ["", "žlutý"], ["bcd", "e"]]));
        let [first, second] = &split(&both, &[2, 1]).expect("the rows are there")[..] else {
            panic!("two parts were asked for");
        };
        assert_eq!(first, &strings(&[["a", ""], ["", "žlutý"]]));
        assert_eq!(second, &strings(&[["bcd", "e"]]));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let fp32 = |dims: &[usize]| {
            let shape = Shape::new(dims.to_vec()).expect("small shapes fit");
            Tensor::from_vec(shape.clone(), vec![0f32; shape.elements()]).expect("it fits")
        };
        let one = fp32(&[1, 2]);
        assert!(concat(&[&one, &fp32(&[1, 3])]).is_err());
        assert!(concat(&[&one, &fp32(&[1, 2, 1])]).is_err());
        assert!(concat(&[&fp32(&[]), &fp32(&[])]).is_err());
        assert!(concat(&[&one, &strings(&[["", ""]])]).is_err());
        assert!(concat(&[]).is_err());
        assert!(split(&one, &[1, 1]).is_err());
        assert!(split(&fp32(&[]), &[1]).is_err());
    }

    #[test]
    fn parts_share_the_bytes() {
        let both = made_up(DataType::Fp32, 4, 1);
        let parts = split(&both, &[1, 3]).expect("the rows are there");
        assert_eq!(parts[1].data().as_ptr(), both.data()[12..].as_ptr());
    }
}
