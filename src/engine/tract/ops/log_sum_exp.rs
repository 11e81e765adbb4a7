//! ReduceLogSumExp of our own: tract's overflows, so that naive Bayes answers NaN.
//!
//! log Σ eˣ = m + log Σ eˣ⁻ᵐ with m the largest x, which never overflows.

use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};

/// Registers the operator; it replaces tract's.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("ReduceLogSumExp", |_, node| {
        Ok((Host::node(ReduceLogSumExp::read(node)?), vec![]))
    });
}

#[derive(Debug)]
struct ReduceLogSumExp {
    /// All of them where none is named.
    axes: Option<Vec<i64>>,
    keep_dims: bool,
}

impl ReduceLogSumExp {
    fn read(node: &NodeProto) -> TractResult<ReduceLogSumExp> {
        ensure!(
            node.input.iter().filter(|input| !input.is_empty()).count() == 1,
            "axes as an input (opset 18) are not supported; export with opset 17"
        );
        let keep_dims = node.get_attr_opt::<i64>("keepdims")?.unwrap_or(1) != 0;
        Ok(ReduceLogSumExp {
            axes: node.get_attr_opt_vec("axes")?,
            keep_dims,
        })
    }

    /// The reduced axes of an input of this rank, in order.
    fn axes(&self, rank: usize) -> TractResult<Vec<usize>> {
        let Some(axes) = &self.axes else {
            return Ok((0..rank).collect());
        };
        let positive = |axis: &i64| if *axis < 0 { axis + rank as i64 } else { *axis };
        let mut axes: Vec<usize> = axes
            .iter()
            .map(|axis| usize::try_from(positive(axis)))
            .collect::<Result<_, _>>()?;
        axes.sort_unstable();
        ensure!(
            axes.iter().all(|axis| *axis < rank),
            "axes {axes:?} of an input with {rank} dimensions"
        );
        Ok(axes)
    }

    fn reduce<T>(&self, input: &Tensor) -> TractResult<Tensor>
    where
        T: Datum + tract_num_traits::Float,
    {
        let mut output = input.to_plain_array_view::<T>()?.to_owned();
        for axis in self.axes(input.rank())?.into_iter().rev() {
            let axis = tract_ndarray::Axis(axis);
            let reduced = output.map_axis(axis, |lane| {
                let largest = lane.iter().copied().fold(T::neg_infinity(), T::max);
                if largest.is_infinite() {
                    return largest;
                }
                let sum = lane
                    .iter()
                    .fold(T::zero(), |sum, value| sum + (*value - largest).exp());
                largest + sum.ln()
            });
            output = if self.keep_dims {
                reduced.insert_axis(axis)
            } else {
                reduced
            };
        }
        Ok(output.into_tensor())
    }
}

impl Operator for ReduceLogSumExp {
    fn name(&self) -> &'static str {
        "ReduceLogSumExp"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        ensure!(
            [f32::datum_type(), f64::datum_type()].contains(dtype),
            "inputs of type {dtype:?} are not supported"
        );
        let mut shape = shape.clone();
        for axis in self.axes(shape.len())?.into_iter().rev() {
            match self.keep_dims {
                true => shape[axis] = 1.to_dim(),
                false => {
                    shape.remove(axis);
                }
            }
        }
        Ok(vec![(*dtype, shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let output = match inputs[0].datum_type() == f32::datum_type() {
            true => self.reduce::<f32>(&inputs[0])?,
            false => self.reduce::<f64>(&inputs[0])?,
        };
        Ok(tvec![output.into_tvalue()])
    }
}
