//! TreeEnsembleRegressor, and what TreeEnsemble computes: a score for each target.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::forest::{Aggregate, Scores, Value};
use super::super::host::{Fact, Operator, row_count, rows_of_features};
use super::super::scores::PostTransform;
use super::attributes::{self, Numbers};
use super::ensemble::{AnyScores, Ensemble};

#[derive(Debug)]
pub struct Regressor {
    pub name: &'static str,
    pub ensemble: Ensemble,
    pub aggregate: Aggregate,
    pub post_transform: PostTransform,
    /// Added to each target's score; empty means nothing.
    pub base: Vec<f64>,
    /// The scores are of the input's type; else FP32.
    pub keeps_type: bool,
}

impl Regressor {
    pub fn read(context: &ParsingContext, node: &NodeProto) -> TractResult<Regressor> {
        let targets: i64 = node.get_attr("n_targets")?;
        let invalid = || format!("n_targets is {targets}");
        let targets = usize::try_from(targets).ok().with_context(invalid)?;
        let name = node.get_attr_opt::<&str>("aggregate_function")?;
        let aggregate = match name.unwrap_or("SUM") {
            "SUM" => Aggregate::Sum,
            "AVERAGE" => Aggregate::Average,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            other => bail!("unknown aggregate_function {other}"),
        };
        let base = Numbers::read(context, node, "base_values")?;
        let length = base.values.len();
        ensure!(
            length == 0 || length == targets,
            "base_values has {length} values for {targets} targets"
        );
        let mut spec = attributes::read(context, node, "target", targets)?;
        spec.is_double |= base.is_double;
        Ok(Regressor {
            name: "TreeEnsembleRegressor",
            ensemble: Ensemble::new(spec)?,
            aggregate,
            post_transform: PostTransform::read(node)?,
            base: base.values,
            keeps_type: false,
        })
    }

    fn add_base<V: Value>(&self, scores: &mut Scores<V>) {
        if self.base.is_empty() {
            return;
        }
        let targets = self.ensemble.targets;
        for at in 0..scores.values.len() {
            // A target that no leaf voted for stays zero.
            if scores.voted(at / targets)[at % targets] {
                scores.values[at] += V::of(self.base[at % targets]);
            }
        }
    }

    fn transformed(&self, mut scores: Vec<f32>) -> Vec<f32> {
        let targets = self.ensemble.targets;
        // ONNX Runtime leaves a single score as it is, but for PROBIT.
        if targets > 1 || self.post_transform == PostTransform::Probit {
            for row in scores.chunks_exact_mut(targets) {
                self.post_transform.apply(row);
            }
        }
        scores
    }
}

impl Operator for Regressor {
    fn name(&self) -> &'static str {
        self.name
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        let is_half = self.keeps_type && *dtype == DatumType::F16;
        let computed = if is_half { DatumType::F32 } else { *dtype };
        let rows = rows_of_features(&(computed, shape.clone()), self.ensemble.features)?;
        self.ensemble.prepare(computed)?;
        let dtype = match self.keeps_type {
            true => *dtype,
            false => f32::datum_type(),
        };
        Ok(vec![(dtype, tvec![rows, self.ensemble.targets.to_dim()])])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let scores = match self.ensemble.scores(input, self.aggregate)? {
            AnyScores::Single(mut scores) => {
                self.add_base(&mut scores);
                tensor1(&self.transformed(scores.values))
            }
            AnyScores::Double(mut scores) => {
                self.add_base(&mut scores);
                match self.keeps_type && self.post_transform == PostTransform::None {
                    true => tensor1(&scores.values),
                    false => tensor1(&self.transformed(f64::narrow(scores.values))),
                }
            }
        };
        let dtype = match self.keeps_type {
            true => input.datum_type(),
            false => f32::datum_type(),
        };
        let scores = scores.cast_to_dt(dtype)?.into_owned();
        let scores = scores.into_shape(&[row_count(input), self.ensemble.targets])?;
        Ok(tvec![scores.into_tvalue()])
    }
}
