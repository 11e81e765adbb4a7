//! Det: the determinants of square matrices, by elimination with pivots.

use tract_ndarray::Array2;
use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};

/// Registers the operator.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register
        .insert("Det", |_, _| Ok((Host::node(Det), vec![])));
}

#[derive(Debug)]
struct Det;

fn determinant(mut matrix: Array2<f64>) -> f64 {
    let size = matrix.nrows();
    let mut product = 1.0;
    for column in 0..size {
        let by_size = |one: &usize, other: &usize| {
            matrix[[*one, column]]
                .abs()
                .total_cmp(&matrix[[*other, column]].abs())
        };
        let pivot = (column..size).max_by(by_size).unwrap_or(column);
        if matrix[[pivot, column]] == 0.0 {
            return 0.0;
        }
        if pivot != column {
            for index in 0..size {
                matrix.swap([column, index], [pivot, index]);
            }
            product = -product;
        }
        product *= matrix[[column, column]];
        for row in column + 1..size {
            let factor = matrix[[row, column]] / matrix[[column, column]];
            for index in column..size {
                matrix[[row, index]] -= factor * matrix[[column, index]];
            }
        }
    }
    product
}

impl Operator for Det {
    fn name(&self) -> &'static str {
        "Det"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        ensure!(
            dtype.is_float(),
            "inputs of type {dtype:?} are not supported"
        );
        ensure!(shape.len() > 1, "the input has {} dimensions", shape.len());
        Ok(vec![(*dtype, shape[..shape.len() - 2].into())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (outer, matrix) = inputs[0].shape().split_at(inputs[0].rank() - 2);
        ensure!(
            matrix[0] == matrix[1],
            "matrices of shape {matrix:?} have no determinant"
        );
        let values = inputs[0].cast_to::<f64>()?;
        let values = values.to_plain_array_view::<f64>()?;
        let count = outer.iter().product();
        let matrices = values.to_shape((count, matrix[0], matrix[1]))?;
        let determinants = matrices
            .outer_iter()
            .map(|matrix| determinant(matrix.to_owned()));
        let output = tract_ndarray::ArrayD::from_shape_vec(outer, determinants.collect())?;
        let output = output
            .into_tensor()
            .cast_to_dt(inputs[0].datum_type())?
            .into_owned();
        Ok(tvec![output.into_tvalue()])
    }
}
