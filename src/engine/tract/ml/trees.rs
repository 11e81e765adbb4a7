//! TreeEnsembleClassifier and TreeEnsembleRegressor (ai.onnx.ml 1 and 3).
//!
//! Where the operator's documentation is silent (two classes in one score, what a missing score means) this does what
//! ONNX Runtime does, which the tests compare with.

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::classes::Classes;
use super::forest::{Feature, Forest, Mode, NodeSpec, Vote, VoteSpec};
use super::host::{Fact, Host, Operator, row_count, rows_of_features};
use super::scores::{PostTransform, logistic, probit};

type Parsed = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// Registers both operators.
pub fn register(operators: &mut OnnxOpRegister) {
    operators.insert(
        "TreeEnsembleClassifier",
        |_: &ParsingContext, node: &NodeProto| -> Parsed {
            Ok((Host::node(Classifier::read(node)?), vec![]))
        },
    );
    operators.insert(
        "TreeEnsembleRegressor",
        |_: &ParsingContext, node: &NodeProto| -> Parsed {
            Ok((Host::node(Regressor::read(node)?), vec![]))
        },
    );
}

/// What both have in common.
#[derive(Debug)]
struct Ensemble {
    forest: Forest,
    /// Added to each target's score; empty means nothing.
    base: Vec<f32>,
    post_transform: PostTransform,
    targets: usize,
}

impl Ensemble {
    /// Reads the attributes; those of votes begin with `prefix`.
    fn read(node: &NodeProto, prefix: &str, targets: usize) -> TractResult<Ensemble> {
        for attribute in [
            "nodes_values_as_tensor",
            "nodes_hitrates_as_tensor",
            "base_values_as_tensor",
        ] {
            if node.attribute.iter().any(|found| found.name == attribute) {
                bail!("attribute {attribute} (double precision) is not supported");
            }
        }
        let nodes = nodes(node)?;
        let trees = node.get_attr_slice::<i64>(&format!("{prefix}_treeids"))?;
        let ids = node.get_attr_slice::<i64>(&format!("{prefix}_nodeids"))?;
        let voted = node.get_attr_slice::<i64>(&format!("{prefix}_ids"))?;
        let weights = node.get_attr_slice::<f32>(&format!("{prefix}_weights"))?;
        ensure!(
            [ids.len(), voted.len(), weights.len()]
                .iter()
                .all(|length| *length == trees.len()),
            "the {prefix}_… attributes differ in length"
        );
        let votes: Vec<_> = (0..trees.len())
            .map(|at| VoteSpec {
                tree: trees[at],
                node: ids[at],
                target: voted[at],
                weight: weights[at],
            })
            .collect();
        let base = node
            .get_attr_opt_slice::<f32>("base_values")?
            .unwrap_or_default()
            .to_vec();
        ensure!(
            base.is_empty() || base.len() == targets || base.len() == 1,
            "base_values has {} values",
            base.len()
        );
        let post_transform = PostTransform::read(node)?;
        let forest = Forest::new(&nodes, &votes, targets).map_err(TractError::msg)?;
        Ok(Ensemble {
            forest,
            base,
            post_transform,
            targets,
        })
    }

    /// Calls `each` with every row's index and its trees' votes, in the trees' order.
    fn for_each_row(
        &self,
        input: &Tensor,
        each: impl FnMut(usize, &mut dyn Iterator<Item = &[Vote]>),
    ) -> TractResult<()> {
        let features = input.shape().last().copied().unwrap_or(0);
        ensure!(
            features >= self.forest.features(),
            "the trees look at {} features and the input has {features}",
            self.forest.features()
        );
        if input.datum_type() == f64::datum_type() {
            self.walk_rows(input.try_as_plain_ram()?.as_slice::<f64>()?, features, each);
        } else {
            let input = input.cast_to::<f32>()?;
            self.walk_rows(input.try_as_plain_ram()?.as_slice::<f32>()?, features, each);
        }
        Ok(())
    }

    fn walk_rows<T: Feature>(
        &self,
        values: &[T],
        features: usize,
        mut each: impl FnMut(usize, &mut dyn Iterator<Item = &[Vote]>),
    ) {
        if features > 0 {
            let rows = values.chunks_exact(features).enumerate();
            rows.for_each(|(index, row)| each(index, &mut self.forest.votes(row)));
        }
    }
}

fn nodes(node: &NodeProto) -> TractResult<Vec<NodeSpec>> {
    let trees = node.get_attr_slice::<i64>("nodes_treeids")?;
    let ids = node.get_attr_slice::<i64>("nodes_nodeids")?;
    let features = node.get_attr_slice::<i64>("nodes_featureids")?;
    let thresholds = node.get_attr_slice::<f32>("nodes_values")?;
    let modes = node.get_attr_tvec::<&str>("nodes_modes")?;
    let on_true = node.get_attr_slice::<i64>("nodes_truenodeids")?;
    let on_false = node.get_attr_slice::<i64>("nodes_falsenodeids")?;
    let missing = node
        .get_attr_opt_slice::<i64>("nodes_missing_value_tracks_true")?
        .unwrap_or_default();
    let lengths = [
        ids.len(),
        features.len(),
        thresholds.len(),
        modes.len(),
        on_true.len(),
        on_false.len(),
    ];
    ensure!(
        lengths.iter().all(|length| *length == trees.len()),
        "the nodes_… attributes differ in length"
    );
    ensure!(
        missing.is_empty() || missing.len() == trees.len(),
        "nodes_missing_value_tracks_true has the wrong length"
    );
    (0..trees.len())
        .map(|at| {
            Ok(NodeSpec {
                tree: trees[at],
                node: ids[at],
                feature: features[at],
                threshold: thresholds[at],
                mode: Mode::from_name(modes[at])
                    .with_context(|| format!("unknown mode {}", modes[at]))?,
                on_true: on_true[at],
                on_false: on_false[at],
                missing_is_true: missing.get(at).is_some_and(|tracks| *tracks != 0),
            })
        })
        .collect()
}

/// How the trees' votes for a target become its score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

#[derive(Debug)]
struct Regressor {
    ensemble: Ensemble,
    aggregate: Aggregate,
}

impl Regressor {
    fn read(node: &NodeProto) -> TractResult<Regressor> {
        let targets: i64 = node.get_attr("n_targets")?;
        let targets = usize::try_from(targets)
            .ok()
            .filter(|targets| *targets > 0)
            .context("n_targets is not valid")?;
        let aggregate = match node
            .get_attr_opt::<&str>("aggregate_function")?
            .unwrap_or("SUM")
        {
            "SUM" => Aggregate::Sum,
            "AVERAGE" => Aggregate::Average,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            other => bail!("unknown aggregate_function {other}"),
        };
        Ok(Regressor {
            ensemble: Ensemble::read(node, "target", targets)?,
            aggregate,
        })
    }
}

impl Operator for Regressor {
    fn name(&self) -> &'static str {
        "TreeEnsembleRegressor"
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let rows = rows_of_features(&inputs[0], self.ensemble.forest.features())?;
        Ok(vec![(
            f32::datum_type(),
            tvec![rows, self.ensemble.targets.to_dim()],
        )])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let Regressor {
            ensemble,
            aggregate,
        } = self;
        let targets = ensemble.targets;
        let mut scores = vec![0.0f32; row_count(&inputs[0]) * targets];
        let mut seen = vec![false; targets];
        ensemble.for_each_row(&inputs[0], |row, votes| {
            let scores = &mut scores[row * targets..(row + 1) * targets];
            seen.fill(false);
            for vote in votes.flatten() {
                let (score, seen) = (
                    &mut scores[vote.target as usize],
                    &mut seen[vote.target as usize],
                );
                *score = match aggregate {
                    Aggregate::Sum | Aggregate::Average => *score + vote.weight,
                    Aggregate::Min if *seen => score.min(vote.weight),
                    Aggregate::Max if *seen => score.max(vote.weight),
                    Aggregate::Min | Aggregate::Max => vote.weight,
                };
                *seen = true;
            }
            // A target that no leaf voted for stays zero, without its base value.
            for (target, score) in scores
                .iter_mut()
                .enumerate()
                .filter(|(target, _)| seen[*target])
            {
                if *aggregate == Aggregate::Average {
                    *score /= ensemble.forest.trees() as f32;
                }
                *score += ensemble.base.get(target).copied().unwrap_or(0.0);
            }
            // ONNX Runtime leaves a single score as it is, but for PROBIT.
            if targets > 1 || ensemble.post_transform == PostTransform::Probit {
                ensemble.post_transform.apply(scores);
            }
        })?;
        let scores =
            tract_ndarray::Array2::from_shape_vec((row_count(&inputs[0]), targets), scores)?;
        Ok(tvec![scores.into_tensor().into_tvalue()])
    }
}

#[derive(Debug)]
struct Classifier {
    ensemble: Ensemble,
    classes: Classes,
    /// Two classes whose leaves vote for one alone: the score of the other is derived.
    one_score: bool,
    all_positive: bool,
}

impl Classifier {
    fn read(node: &NodeProto) -> TractResult<Classifier> {
        let classes = Classes::read(node, "classlabels_int64s")?;
        let voted = node.get_attr_slice::<i64>("class_ids")?;
        let one_score =
            classes.count() == 2 && voted.iter().all(|class| Some(class) == voted.first());
        let weights = node.get_attr_slice::<f32>("class_weights")?;
        let all_positive = weights.iter().all(|weight| *weight >= 0.0);
        let ensemble = Ensemble::read(node, "class", classes.count())?;
        Ok(Classifier {
            ensemble,
            classes,
            one_score,
            all_positive,
        })
    }

    /// Turns a row's sums into the scores as they are shown; returns the class that wins.
    fn decide(&self, sums: &mut [f32], seen: &[bool]) -> usize {
        if self.one_score {
            return self.decide_one_score(sums, seen[1]);
        }
        let Ensemble {
            base,
            post_transform,
            ..
        } = &self.ensemble;
        base.iter()
            .zip(sums.iter_mut())
            .for_each(|(base, sum)| *sum += base);
        let winner = largest(sums, seen, !base.is_empty());
        post_transform.apply(sums);
        winner
    }

    /// Two classes, and all leaves vote for one of them alone: the other's score is derived, or zero.
    fn decide_one_score(&self, sums: &mut [f32], of_second: bool) -> usize {
        let Ensemble {
            base,
            post_transform,
            ..
        } = &self.ensemble;
        let positive = match (of_second, base.as_slice()) {
            // ONNX Runtime adds the base value to the first class's sum here, which is zero.
            (true, [_, base]) => *base,
            (true, _) => sums[1],
            (false, [base, ..]) => sums[0] + base,
            (false, []) => sums[0],
        };
        let is_share = self.one_score && self.all_positive;
        let winner = usize::from(positive > if is_share { 0.5 } else { 0.0 });
        let both_are_shown = of_second || base.len() == 2;
        let shown = match post_transform {
            _ if of_second => [0.0, positive],
            _ if both_are_shown => [positive, 0.0],
            PostTransform::Logistic => [logistic(-positive), logistic(positive)],
            PostTransform::Probit => [probit(positive), 0.0],
            _ if is_share => [1.0 - positive, positive],
            _ => [-positive, positive],
        };
        sums.copy_from_slice(&shown);
        if both_are_shown {
            post_transform.apply(sums);
        }
        winner
    }
}

/// The first class with the largest score among those that were voted for.
fn largest(sums: &[f32], seen: &[bool], all: bool) -> usize {
    let mut winner: Option<usize> = None;
    for (class, sum) in sums.iter().enumerate() {
        if (all || seen[class]) && winner.is_none_or(|winner| *sum > sums[winner]) {
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
        let rows = rows_of_features(&inputs[0], self.ensemble.forest.features())?;
        let labels = (self.classes.datum_type(), tvec![rows.clone()]);
        Ok(vec![
            labels,
            (
                f32::datum_type(),
                tvec![rows, self.ensemble.targets.to_dim()],
            ),
        ])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let (rows, classes) = (row_count(&inputs[0]), self.ensemble.targets);
        let mut scores = vec![0.0f32; rows * classes];
        let mut winners = vec![0usize; rows];
        let mut seen = vec![false; classes];
        self.ensemble.for_each_row(&inputs[0], |row, votes| {
            let sums = &mut scores[row * classes..(row + 1) * classes];
            seen.fill(false);
            for vote in votes.flatten() {
                sums[vote.target as usize] += vote.weight;
                seen[vote.target as usize] = true;
            }
            winners[row] = self.decide(sums, &seen);
        })?;
        let labels = self.classes.pick(&winners)?;
        let scores = tract_ndarray::Array2::from_shape_vec((rows, classes), scores)?;
        Ok(tvec![
            labels.into_tvalue(),
            scores.into_tensor().into_tvalue()
        ])
    }
}
