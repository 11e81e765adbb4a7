//! Compress of our own, since tract cannot plan its own: how much is left is only known when it runs.

use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};
use super::deferred;
use super::pick::{number, pick, positions};

/// Registers the operator; it replaces tract's.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("Compress", |context, node| {
        let operator = Compress {
            axis: node.get_attr_opt("axis")?,
            left: context.template.symbols.new_with_prefix("x").to_dim(),
        };
        Ok((Host::node(operator), vec![]))
    });
}

#[derive(Debug)]
struct Compress {
    /// Without one the input counts as a list.
    axis: Option<i64>,
    /// How long the axis is in the output.
    left: TDim,
}

impl Operator for Compress {
    fn name(&self) -> &'static str {
        "Compress"
    }

    fn least_inputs(&self) -> usize {
        2
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        let mut shape = shape.clone();
        match self.axis {
            Some(axis) => shape[deferred::axis(axis, inputs[0].1.len())?] = self.left.clone(),
            None => shape = tvec![self.left.clone()],
        }
        Ok(vec![(*dtype, shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let kept = inputs[1].to_plain_array_view::<bool>()?;
        let kept: Vec<usize> = (0..)
            .zip(kept.iter())
            .filter(|(_, kept)| **kept)
            .map(|(at, _)| at)
            .collect();
        let dims = input.shape();
        let length = match self.axis {
            Some(axis) => dims[deferred::axis(axis, dims.len())?],
            None => input.len(),
        };
        ensure!(
            kept.iter().all(|at| *at < length),
            "the condition is longer than the {length} elements it chooses from"
        );
        let output = match self.axis {
            None => pick(input, &[kept.len()], kept.iter().map(|at| Some(*at)))?,
            Some(axis) => {
                let axis = deferred::axis(axis, dims.len())?;
                let mut shape = dims.to_vec();
                shape[axis] = kept.len();
                let from = positions(&shape).map(|mut position| {
                    position[axis] = kept[position[axis]];
                    Some(number(&position, dims))
                });
                pick(input, &shape, from)?
            }
        };
        Ok(tvec![output.into_tvalue()])
    }
}
