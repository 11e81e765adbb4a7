//! LinearClassifier (ai.onnx.ml 1).

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::classes::Classes;
use super::host::{Fact, Host, Operator, row_count, rows_of_features};
use super::scores::{PostTransform, logistic};

/// Registers the operator.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert("LinearClassifier", |_, node| {
        Ok((Host::node(LinearClassifier::read(node)?), vec![]))
    });
}

#[derive(Debug)]
struct LinearClassifier {
    classes: Classes,
    /// One row of weights for each score.
    weights: Vec<f32>,
    intercepts: Vec<f32>,
    features: usize,
    post_transform: PostTransform,
}

impl LinearClassifier {
    fn read(node: &NodeProto) -> TractResult<LinearClassifier> {
        let classes = Classes::read(node, "classlabels_ints")?;
        let weights: Vec<f32> = node.get_attr_vec("coefficients")?;
        let intercepts: Vec<f32> = node
            .get_attr_opt_vec("intercepts")?
            .unwrap_or_else(|| vec![0.0; classes.count()]);
        let scores = intercepts.len();
        ensure!(
            scores > 0 && weights.len().is_multiple_of(scores),
            "{} coefficients for {scores} scores",
            weights.len()
        );
        ensure!(
            scores <= classes.count() && (scores > 1 || classes.count() == 2),
            "{scores} scores for {} classes",
            classes.count()
        );
        let post_transform = PostTransform::read(node)?;
        Ok(LinearClassifier {
            classes,
            features: weights.len() / scores,
            weights,
            intercepts,
            post_transform,
        })
    }

    /// The scores that are shown: two classes of one score show both.
    fn shown(&self) -> usize {
        self.intercepts.len().max(2)
    }

    /// Writes a row's scores and returns the class that wins.
    fn decide(&self, row: &[f32], scores: &mut [f32]) -> usize {
        let dot = |weights: &[f32]| {
            weights
                .iter()
                .zip(row)
                .map(|(weight, value)| weight * value)
                .sum::<f32>()
        };
        let weights = self.weights.chunks_exact(self.features.max(1));
        for ((score, weights), intercept) in scores.iter_mut().zip(weights).zip(&self.intercepts) {
            *score = dot(weights) + intercept;
        }
        if self.intercepts.len() == 1 {
            let score = scores[0];
            let shown = match self.post_transform {
                PostTransform::Logistic => [logistic(-score), logistic(score)],
                _ => [1.0 - score, score],
            };
            scores.copy_from_slice(&shown);
            return usize::from(score > 0.0);
        }
        let first_largest = |best: usize, class: usize| {
            if scores[class] > scores[best] {
                class
            } else {
                best
            }
        };
        let winner = (0..scores.len()).fold(0, first_largest);
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
        let rows = rows_of_features(&inputs[0], self.features)?;
        let labels = (self.classes.datum_type(), tvec![rows.clone()]);
        Ok(vec![
            labels,
            (f32::datum_type(), tvec![rows, self.shown().to_dim()]),
        ])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = inputs[0].cast_to::<f32>()?;
        let values = input.try_as_plain_ram()?.as_slice::<f32>()?;
        let rows = row_count(&input);
        ensure!(
            values.len() == rows * self.features,
            "expected {} features in each row",
            self.features
        );
        let shown = self.shown();
        let mut scores = vec![0.0; rows * shown];
        let chunks = values
            .chunks_exact(self.features.max(1))
            .zip(scores.chunks_exact_mut(shown));
        let winners: Vec<_> = chunks
            .map(|(row, scores)| self.decide(row, scores))
            .collect();
        let scores = tract_ndarray::Array2::from_shape_vec((rows, shown), scores)?;
        Ok(tvec![
            self.classes.pick(&winners)?.into_tvalue(),
            scores.into_tensor().into_tvalue()
        ])
    }
}
