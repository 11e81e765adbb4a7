//! Normalizer (ai.onnx.ml 1): scales each row by its norm.

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::host::{Fact, Host, Operator, is_number, output, slice};

/// Registers the operator.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("Normalizer", |_, node| {
        Ok((Host::node(Normalizer::read(node)?), vec![]))
    });
}

/// The attribute `norm`.
#[derive(Debug, Clone, Copy)]
enum Normalizer {
    Max,
    L1,
    L2,
}

impl Normalizer {
    fn read(node: &NodeProto) -> TractResult<Normalizer> {
        Ok(match node.get_attr_opt("norm")?.unwrap_or("MAX") {
            "MAX" => Normalizer::Max,
            "L1" => Normalizer::L1,
            "L2" => Normalizer::L2,
            other => bail!("unknown norm {other}"),
        })
    }

    /// Scales a row; one whose norm is 0 stays as it is.
    fn scale(self, row: &mut [f32]) {
        let norm = match self {
            Normalizer::Max => row.iter().copied().fold(f32::MIN, f32::max),
            Normalizer::L1 => row.iter().map(|value| value.abs()).sum(),
            Normalizer::L2 => row.iter().map(|value| value * value).sum(),
        };
        if norm == 0.0 {
            return;
        }
        match self {
            Normalizer::Max | Normalizer::L1 => row.iter_mut().for_each(|value| *value /= norm),
            Normalizer::L2 => row.iter_mut().for_each(|value| {
                *value = (*value * *value / norm).sqrt().copysign(*value);
            }),
        }
    }
}

impl Operator for Normalizer {
    fn name(&self) -> &'static str {
        "Normalizer"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        ensure!(
            is_number(*dtype),
            "inputs of type {dtype:?} are not supported"
        );
        ensure!(
            matches!(shape.len(), 1 | 2),
            "the input has {} dimensions instead of 2",
            shape.len()
        );
        Ok(vec![(f32::datum_type(), shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let shape = inputs[0].shape();
        let mut values = slice::<f32>(inputs[0].cast_to::<f32>()?.as_ref())?.to_vec();
        let features = shape.last().copied().unwrap_or_default().max(1);
        values
            .chunks_exact_mut(features)
            .for_each(|row| self.scale(row));
        Ok(tvec![output(shape, values)?])
    }
}
