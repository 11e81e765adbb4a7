//! Upsample of operator sets 7 to 9, which Resize replaced: nearest, or linear along every axis that is scaled.

use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};
use super::deferred::Deferred;
use super::pick::{elements, number, pick, positions};

/// Registers the operator.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register
        .insert("Upsample", |_, node| Ok((read(node)?, vec![])));
}

/// The scales are an attribute at first, then an input.
fn read(node: &NodeProto) -> TractResult<Box<dyn InferenceOp>> {
    let linear = match node.get_attr_opt("mode")?.unwrap_or("nearest") {
        "nearest" => false,
        "linear" | "bilinear" => true,
        other => bail!("mode '{other}' is not supported"),
    };
    let upsample = move |scales: Vec<f32>| {
        let sane = scales.iter().all(|scale| (1.0..1e6).contains(scale));
        ensure!(sane, "scales holds {scales:?}");
        Ok(Upsample { linear, scales })
    };
    if node.input.len() == 1 {
        return Ok(Host::node(upsample(node.get_attr_vec("scales")?)?));
    }
    Ok(Deferred::node("Upsample", vec![1], move |values| {
        let scales = values[0].to_plain_array_view::<f32>()?;
        upsample(scales.iter().copied().collect())
    }))
}

#[derive(Debug)]
struct Upsample {
    linear: bool,
    scales: Vec<f32>,
}

impl Upsample {
    fn check(&self, rank: usize) -> TractResult<()> {
        let scales = self.scales.len();
        ensure!(
            scales == rank,
            "there are {scales} scales for {rank} dimensions"
        );
        Ok(())
    }

    /// Up to two elements along an axis and the weight of the second.
    fn between(&self, axis: usize, at: usize, length: usize) -> (usize, usize, f64) {
        let place = at as f32 / self.scales[axis];
        let first = (place as usize).min(length - 1);
        let second = (first + 1).min(length - 1);
        (first, second, f64::from(place - first as f32))
    }

    fn interpolate(&self, values: &[f64], dims: &[usize], position: &[usize]) -> f64 {
        let between = position.iter().enumerate();
        let between: Vec<_> = between
            .map(|(axis, at)| self.between(axis, *at, dims[axis]))
            .collect();
        // Axes that are not scaled have one element, not two.
        let corners: Vec<usize> = self
            .scales
            .iter()
            .map(|scale| 1 + usize::from(*scale != 1.0))
            .collect();
        let corners = positions(&corners).map(|corner| {
            let axes = corner.iter().zip(&between);
            let place: Vec<usize> = axes
                .clone()
                .map(|(corner, (first, second, _))| [*first, *second][*corner])
                .collect();
            let weights = axes.map(|(corner, (_, _, weight))| [1.0 - weight, *weight][*corner]);
            weights.product::<f64>() * values[number(&place, dims)]
        });
        corners.sum()
    }
}

impl Operator for Upsample {
    fn name(&self) -> &'static str {
        "Upsample"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        self.check(shape.len())?;
        let dims = shape
            .iter()
            .zip(&self.scales)
            .map(|(dim, scale)| match dim.to_usize() {
                Ok(length) => Ok(((length as f32 * scale) as usize).to_dim()),
                Err(_) if scale.fract() == 0.0 => Ok(dim.clone() * *scale as usize),
                Err(_) => bail!("a dimension that is scaled by {scale} must be fixed"),
            });
        Ok(vec![(*dtype, dims.collect::<TractResult<_>>()?)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let dims = input.shape();
        self.check(dims.len())?;
        let scaled = dims.iter().zip(&self.scales);
        let scaled: Vec<usize> = scaled
            .map(|(dim, scale)| (*dim as f32 * scale) as usize)
            .collect();
        elements(&scaled)?;
        if !self.linear {
            let from = positions(&scaled).map(|position| {
                let axes = position.iter().enumerate();
                let place: Vec<usize> = axes
                    .map(|(axis, at)| self.between(axis, *at, dims[axis]).0)
                    .collect();
                Some(number(&place, dims))
            });
            return Ok(tvec![pick(input, &scaled, from)?.into_tvalue()]);
        }
        let values = input.cast_to::<f64>()?;
        let values = values.to_plain_array_view::<f64>()?;
        let values: Vec<f64> = values.iter().copied().collect();
        let output = positions(&scaled)
            .map(|position| self.interpolate(&values, dims, &position))
            .collect();
        let output = tract_ndarray::ArrayD::from_shape_vec(scaled, output)?;
        let output = output
            .into_tensor()
            .cast_to_dt(input.datum_type())?
            .into_owned();
        Ok(tvec![output.into_tvalue()])
    }
}
