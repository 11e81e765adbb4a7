//! Makes a tensor of elements of another one, whatever their type.

use tract_ndarray::{Dimension, IntoDimension};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

/// More than an answer could hold; a file may name any size.
const MOST_ELEMENTS: usize = 1 << 28;

/// How many elements a tensor of this shape has; fails for more than an answer could hold.
pub fn elements(shape: &[usize]) -> TractResult<usize> {
    let mut dims = shape.iter();
    let elements = dims.try_fold(1usize, |product, dim| product.checked_mul(*dim));
    let sane = elements.filter(|elements| *elements <= MOST_ELEMENTS);
    sane.with_context(|| format!("a tensor of shape {shape:?} is too large"))
}

/// A tensor of this shape whose elements are those at `from`, counted in row-major order; none stands for zero or "".
pub fn pick(
    input: &Tensor,
    shape: &[usize],
    from: impl Iterator<Item = Option<usize>>,
) -> TractResult<Tensor> {
    elements(shape)?;
    let dtype = input.datum_type();
    if dtype == DatumType::String {
        let strings = input.to_plain_array_view::<String>()?;
        let strings: Vec<&String> = strings.iter().collect();
        let picked = from.map(|from| match from {
            None => Some(String::new()),
            Some(from) => strings.get(from).map(|string| (*string).clone()),
        });
        let picked = picked
            .collect::<Option<Vec<_>>>()
            .context("an element is missing")?;
        return Ok(tract_ndarray::ArrayD::from_shape_vec(shape, picked)?.into_tensor());
    }
    ensure!(
        dtype.is_copy(),
        "elements of type {dtype:?} are not supported"
    );
    let mut output = Tensor::zero_dt(dtype, shape)?;
    let (bytes, width) = (input.as_bytes(), dtype.size_of());
    let places = output.as_bytes_mut().chunks_exact_mut(width);
    for (place, from) in places.zip(from) {
        if let Some(from) = from {
            let element = bytes.get(from * width..(from + 1) * width);
            place.copy_from_slice(element.context("an element is missing")?);
        }
    }
    Ok(output)
}

/// Every position of a tensor of this shape, in row-major order.
pub fn positions(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let positions = tract_ndarray::indices(shape).into_iter();
    positions.map(|position| position.into_dimension().slice().to_vec())
}

/// The row-major number of a position.
pub fn number(position: &[usize], shape: &[usize]) -> usize {
    let dims = position.iter().zip(shape);
    dims.fold(0, |number, (position, dim)| number * dim + position)
}
