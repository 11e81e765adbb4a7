//! The attributes of TreeEnsemble (ai.onnx.ml 5): branches and leaves in lists of their own, sets as a mode.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::forest::Aggregate;
use super::super::forest::spec::{BranchSpec, ForestSpec, Mode, NodeSpec, VoteSpec};
use super::super::scores::PostTransform;
use super::attributes::{Lists, Numbers};
use super::ensemble::Ensemble;
use super::regressor::Regressor;

/// The number of BRANCH_MEMBER.
const MEMBER: usize = 6;

/// Reads the operator, which is a regressor whose scores are of its input's type.
pub fn read(context: &ParsingContext, node: &NodeProto) -> TractResult<Regressor> {
    let aggregates = [
        Aggregate::Average,
        Aggregate::Sum,
        Aggregate::Min,
        Aggregate::Max,
    ];
    // In the documentation's order; ONNX Runtime 1.31 takes 1 for LOGISTIC and 2 for SOFTMAX.
    let transforms = [
        PostTransform::None,
        PostTransform::Softmax,
        PostTransform::Logistic,
        PostTransform::SoftmaxZero,
        PostTransform::Probit,
    ];
    Ok(Regressor {
        name: "TreeEnsemble",
        aggregate: choice(node, "aggregate_function", 1, &aggregates)?,
        post_transform: choice(node, "post_transform", 0, &transforms)?,
        ensemble: Ensemble::new(read_trees(context, node)?)?,
        base: Vec::new(),
        keeps_type: true,
    })
}

fn choice<T: Copy>(node: &NodeProto, name: &str, default: i64, choices: &[T]) -> TractResult<T> {
    let number = node.get_attr_opt(name)?.unwrap_or(default);
    let choice = usize::try_from(number).ok().and_then(|at| choices.get(at));
    choice
        .copied()
        .with_context(|| format!("unknown {name} {number}"))
}

/// The branches in their order, and behind them the leaves.
fn read_trees(context: &ParsingContext, node: &NodeProto) -> TractResult<ForestSpec> {
    let splits = Numbers::tensor(context, node, "nodes_splits")?;
    let mut spec = ForestSpec {
        is_double: splits.is_double,
        ..ForestSpec::default()
    };
    read_branches(context, node, &splits.values, &mut spec)?;
    let branches = spec.nodes.len();
    for root in node.get_attr_slice::<i64>("tree_roots")? {
        spec.roots.push(place(*root, 0, branches, "tree_roots")?);
    }

    let mut lists = Lists::of(node);
    let targets = lists.read("leaf_targetids")?;
    let weights = Numbers::tensor(context, node, "leaf_weights")?;
    lists.check("leaf_weights", weights.values.len())?;
    let count: i64 = node.get_attr("n_targets")?;
    spec.targets = usize::try_from(count).with_context(|| format!("n_targets is {count}"))?;
    spec.nodes.resize(branches + targets.len(), NodeSpec::Leaf);
    for (at, (target, weight)) in targets.iter().zip(weights.values).enumerate() {
        spec.votes.push(VoteSpec {
            node: u32::try_from(branches + at)?,
            target: place(*target, 0, spec.targets, "leaf_targetids")?,
            weight,
        });
    }
    Ok(spec)
}

fn read_branches(
    context: &ParsingContext,
    node: &NodeProto,
    splits: &[f64],
    spec: &mut ForestSpec,
) -> TractResult<()> {
    let mut lists = Lists::of(node);
    let features = lists.read("nodes_featureids")?;
    let on_true = lists.read("nodes_truenodeids")?;
    let on_false = lists.read("nodes_falsenodeids")?;
    let true_is_leaf = lists.read("nodes_trueleafs")?;
    let false_is_leaf = lists.read("nodes_falseleafs")?;
    let missing = lists.read_flags("nodes_missing_value_tracks_true")?;
    let modes = context.load_tensor(node.get_attr::<&TensorProto>("nodes_modes")?)?;
    let modes = modes.cast_to::<i64>()?;
    let modes = modes.try_as_plain_ram()?.as_slice::<i64>()?;
    lists.check("nodes_modes", modes.len())?;
    lists.check("nodes_splits", splits.len())?;

    let members = Numbers::tensor(context, node, "membership_values")?.values;
    let mut sets = members.split(|member| member.is_nan());
    let branches = features.len();
    let leaves = node.get_attr_slice::<i64>("leaf_targetids")?.len();
    let child = |place_of: i64, is_leaf: i64, name| match is_leaf {
        0 => place(place_of, 0, branches, name),
        _ => place(place_of, branches, leaves, name),
    };
    for at in 0..branches {
        let mode = match usize::try_from(modes[at]) {
            Ok(MEMBER) => {
                let set = sets
                    .next()
                    .context("membership_values has too few sets for the nodes of BRANCH_MEMBER")?;
                spec.sets.push(set.to_vec());
                Some(Mode::Member((spec.sets.len() - 1) as u32))
            }
            Ok(number) => Mode::from_number(number),
            Err(_) => None,
        };
        spec.nodes.push(NodeSpec::Branch(BranchSpec {
            feature: place(features[at], 0, u32::MAX as usize, "nodes_featureids")?,
            threshold: splits[at],
            mode: mode.with_context(|| format!("unknown mode {} in nodes_modes", modes[at]))?,
            missing_is_true: missing.get(at).is_some_and(|tracks| *tracks != 0),
            on_true: child(on_true[at], true_is_leaf[at], "nodes_truenodeids")?,
            on_false: child(on_false[at], false_is_leaf[at], "nodes_falsenodeids")?,
        }));
    }
    Ok(())
}

/// A position among `count`, which begin at `first`.
fn place(at: i64, first: usize, count: usize, name: &str) -> TractResult<u32> {
    let inside = usize::try_from(at).ok().filter(|at| *at < count);
    inside
        .and_then(|at| u32::try_from(first + at).ok())
        .with_context(|| format!("{name} has {at}, which is not among {count}"))
}
