//! QLinearMatMul of our own: tract's computes with one scale, and wraps where it should saturate.

use tract_ndarray::{Array3, ArrayD, Axis, IxDyn};
use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};

/// Registers the operator; it replaces tract's.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("QLinearMatMul", |_, node| {
        ensure!(
            node.input.len() == 8 && node.input.iter().all(|input| !input.is_empty()),
            "all eight inputs are needed"
        );
        Ok((Host::node(QLinearMatMul), vec![]))
    });
}

/// The inputs: two matrices and the result's scale and zero point.
const A: usize = 0;
const B: usize = 3;
const Y_SCALE: usize = 6;
const Y_ZERO: usize = 7;

#[derive(Debug)]
struct QLinearMatMul;

/// Whether a quantised matrix has its scales by row or by column.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Row,
    Column,
}

/// A scale or zero point as it is broadcast over a matrix: one, one a row or column, or shaped like the matrix.
fn over<T: Datum>(values: &Tensor, by: By) -> TractResult<ArrayD<T>> {
    let values = values.cast_to::<T>()?.into_owned();
    let mut values = values.to_plain_array_view::<T>()?.to_owned();
    if values.len() == 1 {
        values = values.into_shape_with_order(IxDyn(&[1, 1]))?;
    } else if values.ndim() == 1 {
        values = values.insert_axis(Axis(usize::from(by == By::Row)));
    }
    Ok(values)
}

/// A matrix as whole numbers from which the zero point is taken.
fn centred(values: &Tensor, zero: &Tensor, by: By) -> TractResult<ArrayD<i32>> {
    let values = values.cast_to::<i32>()?;
    let mut values = values.to_plain_array_view::<i32>()?.to_owned();
    if values.ndim() == 1 {
        values = values.insert_axis(Axis(usize::from(by == By::Column)));
    }
    let zero = over::<i32>(zero, by)?;
    let zero = zero.broadcast(values.raw_dim());
    Ok(values - zero.context("a zero point does not fit its matrix")?)
}

/// The products of the matrices that lie behind the leading dimensions, which are broadcast.
fn products(a: &ArrayD<i32>, b: &ArrayD<i32>) -> TractResult<ArrayD<i32>> {
    let (leading_a, matrix_a) = a.shape().split_at(a.ndim() - 2);
    let (leading_b, matrix_b) = b.shape().split_at(b.ndim() - 2);
    ensure!(
        matrix_a[1] == matrix_b[0],
        "matrices of shapes {:?} and {:?} cannot be multiplied",
        a.shape(),
        b.shape()
    );
    let leading = multi_broadcast(&[leading_a, leading_b])?;
    let pairs = leading.iter().product();
    let stacked = |matrices: &ArrayD<i32>, matrix: &[usize]| -> TractResult<Array3<i32>> {
        let shape: Vec<usize> = leading.iter().chain(matrix).copied().collect();
        let view = matrices.broadcast(IxDyn(&shape));
        let view = view.context("it was found to fit")?;
        let stack = view.to_shape((pairs, matrix[0], matrix[1]))?.into_owned();
        Ok(stack)
    };
    let (a, b) = (stacked(a, matrix_a)?, stacked(b, matrix_b)?);
    let mut products = Array3::zeros((pairs, matrix_a[0], matrix_b[1]));
    for ((mut product, a), b) in products
        .outer_iter_mut()
        .zip(a.outer_iter())
        .zip(b.outer_iter())
    {
        product.assign(&a.dot(&b));
    }
    let shape = leading.iter().chain([&matrix_a[0], &matrix_b[1]]);
    let shape: Vec<usize> = shape.copied().collect();
    Ok(products.into_shape_with_order(IxDyn(&shape))?)
}

impl Operator for QLinearMatMul {
    fn name(&self) -> &'static str {
        "QLinearMatMul"
    }

    fn least_inputs(&self) -> usize {
        8
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let ((_, a), (_, b)) = (&inputs[A], &inputs[B]);
        ensure!(!a.is_empty() && !b.is_empty(), "a scalar is no matrix");
        let leading_a = &a[..a.len().saturating_sub(2)];
        let leading_b = &b[..b.len().saturating_sub(2)];
        let mut shape = multi_broadcast(&[leading_a, leading_b])?;
        if a.len() > 1 {
            shape.push(a[a.len() - 2].clone());
        }
        if b.len() > 1 {
            shape.push(b[b.len() - 1].clone());
        }
        let (dtype, _) = inputs[Y_ZERO];
        ensure!(
            [i8::datum_type(), u8::datum_type()].contains(&dtype),
            "a result of type {dtype:?} is not supported"
        );
        Ok(vec![(dtype, shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let a = centred(&inputs[A], &inputs[A + 2], By::Row)?;
        let b = centred(&inputs[B], &inputs[B + 2], By::Column)?;
        let products = products(&a, &b)?;
        let fits = "a scale or zero point does not fit the result";
        let scale = |input: usize, by| -> TractResult<ArrayD<f32>> {
            let scale = over::<f32>(&inputs[input], by)?;
            Ok(scale
                .broadcast(products.raw_dim())
                .context(fits)?
                .to_owned())
        };
        let scales = scale(A + 1, By::Row)? * scale(B + 1, By::Column)? / scale(Y_SCALE, By::Row)?;
        let zero = over::<f32>(&inputs[Y_ZERO], By::Row)?;
        let zero = zero.broadcast(products.raw_dim()).context(fits)?;
        let values = (products.mapv(|product| product as f32) * scales).mapv(f32::round_ties_even);
        let mut values = values + zero;
        for (input, axis) in [(B, 1), (A, 2)] {
            if inputs[input].rank() == 1 {
                let axis = Axis(values.ndim() - axis);
                values = values.index_axis_move(axis, 0);
            }
        }
        // Casts of floats to integers saturate.
        let output = match inputs[Y_ZERO].datum_type() == i8::datum_type() {
            true => values.mapv(|value| value as i8).into_tensor(),
            false => values.mapv(|value| value as u8).into_tensor(),
        };
        Ok(tvec![output.into_tvalue()])
    }
}
