//! LinearClassifier and LinearRegressor (ai.onnx.ml 1).

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::classes::Classes;
use super::host::{Fact, Host, Operator, Rows, output, rows_of_exactly};
use super::lanes::dot;
use super::scores::{PostTransform, first_largest};

/// Registers the operators.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("LinearClassifier", |_, node| {
        Ok((Host::node(LinearClassifier::read(node)?), vec![]))
    });
    operators.insert("LinearRegressor", |_, node| {
        Ok((Host::node(LinearRegressor::read(node)?), vec![]))
    });
}

/// One weighted sum of the features for each score.
#[derive(Debug)]
struct Sums {
    weights: Vec<f32>,
    intercepts: Vec<f32>,
    features: usize,
}

impl Sums {
    fn new(weights: Vec<f32>, intercepts: Vec<f32>) -> TractResult<Sums> {
        let scores = intercepts.len();
        ensure!(
            scores > 0 && !weights.is_empty() && weights.len().is_multiple_of(scores),
            "{} coefficients for {scores} scores",
            weights.len()
        );
        Ok(Sums {
            features: weights.len() / scores,
            weights,
            intercepts,
        })
    }

    fn count(&self) -> usize {
        self.intercepts.len()
    }

    fn write(&self, row: &[f32], scores: &mut [f32]) {
        let weights = self.weights.chunks_exact(self.features);
        for ((score, weights), intercept) in scores.iter_mut().zip(weights).zip(&self.intercepts) {
            *score = dot(weights, row) + intercept;
        }
    }
}

#[derive(Debug)]
struct LinearClassifier {
    classes: Classes,
    sums: Sums,
    post_transform: PostTransform,
}

impl LinearClassifier {
    fn read(node: &NodeProto) -> TractResult<LinearClassifier> {
        let classes = Classes::read(node, "classlabels_ints")?;
        let intercepts: Vec<f32> = node
            .get_attr_opt_vec("intercepts")?
            .unwrap_or_else(|| vec![0.0; classes.count()]);
        let scores = intercepts.len();
        ensure!(
            scores <= classes.count() && (scores > 1 || classes.count() == 2),
            "{scores} scores for {} classes",
            classes.count()
        );
        let post_transform = PostTransform::read(node)?;
        // ONNX Runtime leaves one of the two columns unwritten.
        ensure!(
            scores > 1 || post_transform != PostTransform::Probit,
            "PROBIT of a single score for two classes is not defined"
        );
        Ok(LinearClassifier {
            classes,
            sums: Sums::new(node.get_attr_vec("coefficients")?, intercepts)?,
            post_transform,
        })
    }

    /// The scores that are shown: two classes of one score show both.
    fn shown(&self) -> usize {
        self.sums.count().max(2)
    }

    /// Writes a row's scores and returns the class that wins.
    fn decide(&self, row: &[f32], scores: &mut [f32]) -> usize {
        self.sums.write(row, scores);
        if self.sums.count() == 1 {
            let score = scores[0];
            scores.copy_from_slice(&self.post_transform.of_two(score));
            return usize::from(score > 0.0);
        }
        let winner = first_largest(scores);
        self.post_transform.apply(scores);
        winner
    }
}

impl Operator for LinearClassifier {
    fn name(&self) -> &'static str {
        "LinearClassifier"
    }

    fn outputs(&self) -> usize {
        2
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = rows_of_exactly(&inputs[0], self.sums.features)?;
        let labels = (self.classes.datum_type(), tvec![rows.clone()]);
        Ok(vec![
            labels,
            (f32::datum_type(), tvec![rows, self.shown().to_dim()]),
        ])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let rows = Rows::read(&inputs[0], self.sums.features)?;
        let shown = self.shown();
        let mut scores = vec![0.0; rows.count * shown];
        let pairs = rows.each()?.zip(scores.chunks_exact_mut(shown));
        let winners: Vec<_> = pairs
            .map(|(row, scores)| self.decide(row, scores))
            .collect();
        Ok(tvec![
            self.classes.pick(&winners)?.into_tvalue(),
            output(&[rows.count, shown], scores)?
        ])
    }
}

#[derive(Debug)]
struct LinearRegressor {
    sums: Sums,
    post_transform: PostTransform,
}

impl LinearRegressor {
    fn read(node: &NodeProto) -> TractResult<LinearRegressor> {
        let weights: Vec<f32> = node.get_attr_vec("coefficients")?;
        let targets: usize = node.get_attr_opt("targets")?.unwrap_or(1);
        ensure!(
            (1..=weights.len()).contains(&targets),
            "{} coefficients for {targets} targets",
            weights.len()
        );
        // ONNX Runtime leaves out intercepts that are not one a target; skl2onnx writes a single 0 for several.
        let intercepts = node
            .get_attr_opt_vec("intercepts")?
            .filter(|intercepts| intercepts.len() == targets)
            .unwrap_or_else(|| vec![0.0; targets]);
        Ok(LinearRegressor {
            sums: Sums::new(weights, intercepts)?,
            post_transform: PostTransform::read(node)?,
        })
    }
}

impl Operator for LinearRegressor {
    fn name(&self) -> &'static str {
        "LinearRegressor"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = rows_of_exactly(&inputs[0], self.sums.features)?;
        let shape = tvec![rows, self.sums.count().to_dim()];
        Ok(vec![(f32::datum_type(), shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let rows = Rows::read(&inputs[0], self.sums.features)?;
        let targets = self.sums.count();
        let mut scores = vec![0.0; rows.count * targets];
        for (row, scores) in rows.each()?.zip(scores.chunks_exact_mut(targets)) {
            self.sums.write(row, scores);
            self.post_transform.apply_to_targets(scores);
        }
        Ok(tvec![output(&[rows.count, targets], scores)?])
    }
}
