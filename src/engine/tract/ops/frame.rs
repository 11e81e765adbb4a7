//! CenterCropPad, and what it shares with Pad's mode wrap: a tensor in another frame.

use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Operator};
use super::deferred::{self, Deferred};
use super::pick::{number, pick, positions};

/// Registers the operator.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("CenterCropPad", |_, node| {
        Ok((center_crop_pad(node)?, vec![]))
    });
}

fn center_crop_pad(node: &NodeProto) -> TractResult<Box<dyn InferenceOp>> {
    let axes: Option<Vec<i64>> = node.get_attr_opt_vec("axes")?;
    Ok(Deferred::node("CenterCropPad", vec![1], move |values| {
        let lengths = deferred::integers(&values[0])?;
        let axes = axes
            .clone()
            .unwrap_or_else(|| (0..lengths.len() as i64).collect());
        ensure!(
            axes.len() == lengths.len(),
            "axes and shape are not of one length"
        );
        let length = |(axis, length): (i64, i64)| {
            let length = usize::try_from(length);
            Ok((
                axis,
                Edge::Centred(length.context("shape holds a negative number")?),
            ))
        };
        Ok(Frame {
            name: "CenterCropPad",
            axes: axes
                .into_iter()
                .zip(lengths)
                .map(length)
                .collect::<TractResult<_>>()?,
        })
    }))
}

/// Puts a tensor into another frame.
#[derive(Debug)]
pub struct Frame {
    name: &'static str,
    axes: Vec<(i64, Edge)>,
}

/// What becomes of one axis.
#[derive(Debug, Clone, Copy)]
pub enum Edge {
    /// Its middle, in this length; zeros where there is nothing.
    Centred(usize),
    /// So many more before and after it, going round.
    Wrapped(i64, i64),
}

impl Frame {
    /// An operator of this name that changes these axes.
    pub fn new(name: &'static str, axes: Vec<(i64, Edge)>) -> Frame {
        Frame { name, axes }
    }
}

impl Edge {
    fn length(self, length: &TDim) -> TDim {
        match self {
            Edge::Centred(length) => length.to_dim(),
            Edge::Wrapped(before, after) => length.clone() + before + after,
        }
    }

    /// Which element of the axis stands at `at` in the output.
    fn from(self, at: usize, length: usize) -> Option<usize> {
        match self {
            Edge::Centred(wanted) => match wanted > length {
                true => at
                    .checked_sub((wanted - length) / 2)
                    .filter(|at| *at < length),
                false => Some(at + (length - wanted) / 2),
            },
            Edge::Wrapped(before, _) => (at as i64)
                .checked_sub(before)?
                .checked_rem_euclid(length as i64)
                .map(|at| at as usize),
        }
    }
}

impl Operator for Frame {
    fn name(&self) -> &'static str {
        self.name
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        let mut framed = shape.clone();
        for (axis, edge) in &self.axes {
            let axis = deferred::axis(*axis, shape.len())?;
            framed[axis] = edge.length(&shape[axis]);
            let negative = framed[axis].to_i64().is_ok_and(|length| length < 0);
            ensure!(!negative, "axis {axis} would get a negative length");
        }
        Ok(vec![(*dtype, framed)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let dims = input.shape();
        let facts = (
            input.datum_type(),
            dims.iter().map(|dim| dim.to_dim()).collect(),
        );
        let framed = self.output_facts(&[facts])?;
        let framed = framed[0].1.iter().map(|dim| Ok(dim.to_usize()?));
        let framed = framed.collect::<TractResult<Vec<_>>>()?;
        let axes = self
            .axes
            .iter()
            .map(|(axis, edge)| Ok((deferred::axis(*axis, dims.len())?, *edge)));
        let axes = axes.collect::<TractResult<Vec<_>>>()?;
        let from = positions(&framed).map(|mut position| {
            for (axis, edge) in &axes {
                position[*axis] = edge.from(position[*axis], dims[*axis])?;
            }
            Some(number(&position, dims))
        });
        Ok(tvec![pick(input, &framed, from)?.into_tvalue()])
    }
}
