//! SVMRegressor: a weighted sum of the similarities to the support vectors, or of the features themselves.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::host::{Fact, Operator, Rows, output, rows_of_exactly};
use super::super::lanes::dot;
use super::kernel::SupportVectors;

#[derive(Debug)]
pub struct SvmRegressor {
    /// Without any, the coefficients are those of the features.
    vectors: Option<SupportVectors>,
    coefficients: Vec<f32>,
    rho: f32,
    /// Whether a row is told apart, as 1 or -1, instead of valued.
    one_class: bool,
}

impl SvmRegressor {
    /// Reads a node. Its `post_transform` has no effect, as in ONNX Runtime.
    pub fn read(node: &NodeProto) -> TractResult<SvmRegressor> {
        let coefficients: Vec<f32> = node.get_attr_vec("coefficients")?;
        let vectors = match node.get_attr_opt::<usize>("n_supports")?.unwrap_or(0) {
            0 => None,
            count => Some(SupportVectors::read(node, count)?),
        };
        let needed = vectors.as_ref().map_or(1, |vectors| vectors.count);
        ensure!(
            coefficients.len() >= needed,
            "{} coefficients for {needed} support vectors",
            coefficients.len()
        );
        let rho: Vec<f32> = node.get_attr_vec("rho")?;
        Ok(SvmRegressor {
            vectors,
            coefficients,
            rho: *rho.first().context("rho is empty")?,
            one_class: node.get_attr_opt::<i64>("one_class")?.unwrap_or(0) != 0,
        })
    }

    fn features(&self) -> usize {
        match &self.vectors {
            Some(vectors) => vectors.features,
            None => self.coefficients.len(),
        }
    }

    fn value(&self, row: &[f32], similarities: &mut [f32]) -> f32 {
        let value = self.rho
            + match &self.vectors {
                Some(vectors) => {
                    vectors.compare(row, similarities);
                    dot(similarities, &self.coefficients[..vectors.count])
                }
                None => dot(row, &self.coefficients),
            };
        match self.one_class {
            true if value > 0.0 => 1.0,
            true => -1.0,
            false => value,
        }
    }
}

impl Operator for SvmRegressor {
    fn name(&self) -> &'static str {
        "SVMRegressor"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = rows_of_exactly(&inputs[0], self.features())?;
        Ok(vec![(f32::datum_type(), tvec![rows, 1.to_dim()])])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let rows = Rows::read(&inputs[0], self.features())?;
        let mut similarities = vec![0.0; self.vectors.as_ref().map_or(0, |vectors| vectors.count)];
        let values = rows
            .each()?
            .map(|row| self.value(row, &mut similarities))
            .collect();
        Ok(tvec![output(&[rows.count, 1], values)?])
    }
}
