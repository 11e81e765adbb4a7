//! TreeEnsembleClassifier: a score for each class, and the class that wins.
//!
//! With two classes whose leaves vote for both, ONNX Runtime lets the second win whenever its score is positive, so
//! also with 0.1 against 0.9. The operator's documentation asks for the top class, and onnx's reference evaluator takes
//! the larger score; skl2onnx does not emit this form (where there are two classes its leaves vote for one). So here,
//! and only here, we differ from ONNX Runtime: the larger score wins, which is what whoever writes such a model means.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::classes::Classes;
use super::super::forest::{Aggregate, Scores, Value};
use super::super::host::{Fact, Operator, row_count, rows_of_features};
use super::super::scores::{PostTransform, logistic, probit};
use super::attributes::{self, Numbers};
use super::ensemble::{AnyScores, Ensemble};

#[derive(Debug)]
pub struct Classifier {
    ensemble: Ensemble,
    classes: Classes,
    post_transform: PostTransform,
    /// Added to each class's score; empty means nothing.
    base: Vec<f64>,
    /// Two classes whose leaves vote for one alone: the score of the other is derived.
    one_score: bool,
    all_positive: bool,
}

impl Classifier {
    pub fn read(context: &ParsingContext, node: &NodeProto) -> TractResult<Classifier> {
        let classes = Classes::read(node, "classlabels_int64s")?;
        let mut spec = attributes::read(context, node, "class", classes.count())?;
        let base = Numbers::read(context, node, "base_values")?;
        let (length, count) = (base.values.len(), classes.count());
        ensure!(
            length <= 1 || length == count,
            "base_values has {length} values for {count} classes"
        );
        spec.is_double |= base.is_double;
        let mut voted = spec.votes.iter().map(|vote| vote.target);
        let first = voted.next();
        let one_score = count == 2 && voted.all(|class| Some(class) == first);
        let all_positive = spec.votes.iter().all(|vote| vote.weight >= 0.0);
        Ok(Classifier {
            ensemble: Ensemble::new(spec)?,
            classes,
            post_transform: PostTransform::read(node)?,
            base: base.values,
            one_score,
            all_positive,
        })
    }

    /// The class that wins each row, and the scores as they are shown.
    fn decide<V: Value>(&self, mut scores: Scores<V>) -> (Vec<usize>, Vec<f32>) {
        let classes = self.ensemble.targets;
        let mut sums = std::mem::take(&mut scores.values);
        let rows = sums.chunks_exact_mut(classes).enumerate();
        let winners = rows
            .map(|(row, sums)| match self.one_score {
                true => self.decide_one_score(sums, scores.voted(row)[1]),
                false => self.decide_row(sums, scores.voted(row)),
            })
            .collect();
        let mut shown = V::narrow(sums);
        for (row, shown) in shown.chunks_exact_mut(classes).enumerate() {
            match self.one_score {
                true => self.show_one_score(shown, scores.voted(row)[1]),
                false => self.post_transform.apply(shown),
            }
        }
        (winners, shown)
    }

    fn decide_row<V: Value>(&self, sums: &mut [V], voted: &[bool]) -> usize {
        for (base, sum) in self.base.iter().zip(sums.iter_mut()) {
            *sum += V::of(*base);
        }
        largest(sums, voted, !self.base.is_empty())
    }

    /// Leaves the one score in both places.
    fn decide_one_score<V: Value>(&self, sums: &mut [V], of_second: bool) -> usize {
        let mut score = sums[usize::from(of_second)];
        match (of_second, self.base.as_slice()) {
            // ONNX Runtime adds the base value to the first class's sum here, which is zero.
            (true, [_, base]) => score = V::of(*base),
            (true, _) | (false, []) => {}
            (false, [base, ..]) => score += V::of(*base),
        }
        sums.fill(score);
        usize::from(score > V::of(if self.all_positive { 0.5 } else { 0.0 }))
    }

    /// Two classes, and all leaves vote for one of them alone: the other's score is derived, or zero.
    fn show_one_score(&self, shown: &mut [f32], of_second: bool) {
        let score = shown[0];
        let both_are_shown = of_second || self.base.len() == 2;
        let pair = match self.post_transform {
            _ if of_second => [0.0, score],
            _ if both_are_shown => [score, 0.0],
            PostTransform::Logistic => [logistic(-score), logistic(score)],
            PostTransform::Probit => [probit(score), 0.0],
            _ if self.all_positive => [1.0 - score, score],
            _ => [-score, score],
        };
        shown.copy_from_slice(&pair);
        if both_are_shown {
            self.post_transform.apply(shown);
        }
    }
}

/// The first class with the largest score among those that were voted for.
fn largest<V: Value>(sums: &[V], voted: &[bool], all: bool) -> usize {
    let mut winner: Option<usize> = None;
    for (class, sum) in sums.iter().enumerate() {
        if (all || voted[class]) && winner.is_none_or(|winner| *sum > sums[winner]) {
            winner = Some(class);
        }
    }
    winner.unwrap_or(0)
}

impl Operator for Classifier {
    fn name(&self) -> &'static str {
        "TreeEnsembleClassifier"
    }

    fn outputs(&self) -> usize {
        2
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = rows_of_features(&inputs[0], self.ensemble.features)?;
        self.ensemble.prepare(inputs[0].0)?;
        let scores = tvec![rows.clone(), self.ensemble.targets.to_dim()];
        let labels = (self.classes.datum_type(), tvec![rows]);
        Ok(vec![labels, (f32::datum_type(), scores)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (winners, scores) = match self.ensemble.scores(&inputs[0], Aggregate::Sum)? {
            AnyScores::Single(scores) => self.decide(scores),
            AnyScores::Double(scores) => self.decide(scores),
        };
        let labels = self.classes.pick(&winners)?;
        let shape = (row_count(&inputs[0]), self.ensemble.targets);
        let scores = tract_ndarray::Array2::from_shape_vec(shape, scores)?;
        let scores = scores.into_tensor().into_tvalue();
        Ok(tvec![labels.into_tvalue(), scores])
    }
}
