//! OneHot of our own: tract's panics on indices out of range, whose rows ONNX leaves off.

use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Operator};
use super::deferred::{self, Deferred};
use super::pick::{number, pick, positions};

/// Registers the operator; it replaces tract's.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register
        .insert("OneHot", |_, node| Ok((read(node)?, vec![])));
}

fn read(node: &NodeProto) -> TractResult<Box<dyn InferenceOp>> {
    let axis = node.get_attr_opt("axis")?.unwrap_or(-1);
    Ok(Deferred::node("OneHot", vec![1], move |values| {
        let depth = deferred::integers(&values[0])?;
        let [depth] = depth.as_slice() else {
            bail!("depth has {} elements instead of one", depth.len());
        };
        ensure!(*depth > 0, "depth holds {depth}");
        Ok(OneHot {
            axis,
            depth: *depth as usize,
        })
    }))
}

#[derive(Debug)]
struct OneHot {
    axis: i64,
    depth: usize,
}

impl Operator for OneHot {
    fn name(&self) -> &'static str {
        "OneHot"
    }

    fn least_inputs(&self) -> usize {
        3
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let ((_, indices), (dtype, _)) = (&inputs[0], &inputs[2]);
        let mut shape = indices.clone();
        shape.insert(
            deferred::axis(self.axis, shape.len() + 1)?,
            self.depth.to_dim(),
        );
        Ok(vec![(*dtype, shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let indices = deferred::integers(&inputs[0])?;
        let dims = inputs[0].shape();
        let axis = deferred::axis(self.axis, dims.len() + 1)?;
        let mut shape = dims.to_vec();
        shape.insert(axis, self.depth);
        let depth = self.depth as i64;
        let chosen = positions(&shape).map(|mut position| {
            let class = position.remove(axis) as i64;
            let index = indices[number(&position, dims)];
            // 0 is where the value for "off" stands, 1 that for "on".
            Some(usize::from(
                index == class || index.checked_add(depth) == Some(class),
            ))
        });
        Ok(tvec![pick(&inputs[2], &shape, chosen)?.into_tvalue()])
    }
}
