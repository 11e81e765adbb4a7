//! The attributes that TreeEnsembleClassifier and TreeEnsembleRegressor share: nodes and votes as parallel lists.

use std::collections::{HashMap, HashSet};

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::forest::spec::{BranchSpec, ForestSpec, Mode, NodeSpec, VoteSpec};

/// Numbers from an attribute, and whether it held them in double precision.
#[derive(Debug, Default)]
pub struct Numbers {
    pub values: Vec<f64>,
    pub is_double: bool,
}

impl Numbers {
    /// The list of floats of this name, or the tensor whose name is longer by `_as_tensor`; empty without either.
    pub fn read(context: &ParsingContext, node: &NodeProto, name: &str) -> TractResult<Numbers> {
        let tensor = Numbers::tensor(context, node, &format!("{name}_as_tensor"))?;
        let floats = node.get_attr_opt_slice::<f32>(name)?.unwrap_or_default();
        match (tensor.values.is_empty(), floats.is_empty()) {
            (true, _) => Ok(Numbers {
                values: floats.iter().copied().map(f64::from).collect(),
                is_double: false,
            }),
            (false, true) => Ok(tensor),
            (false, false) => bail!("{name} and {name}_as_tensor are both given"),
        }
    }

    /// The tensor of this name; empty without one.
    pub fn tensor(context: &ParsingContext, node: &NodeProto, name: &str) -> TractResult<Numbers> {
        let Some(tensor) = node.get_attr_opt::<&TensorProto>(name)? else {
            return Ok(Numbers::default());
        };
        let tensor = context.load_tensor(tensor)?;
        let dtype = tensor.datum_type();
        ensure!(
            [DatumType::F16, DatumType::F32, DatumType::F64].contains(&dtype),
            "{name}: expected a tensor of floats, got {dtype:?}"
        );
        let values = tensor.cast_to::<f64>()?;
        Ok(Numbers {
            values: values.try_as_plain_ram()?.as_slice::<f64>()?.to_vec(),
            is_double: dtype == DatumType::F64,
        })
    }
}

/// The lists of whole numbers and their names: all must be of one length.
pub struct Lists<'a> {
    node: &'a NodeProto,
    length: Option<(String, usize)>,
}

impl<'a> Lists<'a> {
    pub fn of(node: &'a NodeProto) -> Lists<'a> {
        Lists { node, length: None }
    }

    /// A list that must be there.
    pub fn read(&mut self, name: &str) -> TractResult<&'a [i64]> {
        let list = self.node.get_attr_slice::<i64>(name)?;
        self.check(name, list.len())?;
        Ok(list)
    }

    /// A list of flags that may be left out.
    pub fn read_flags(&mut self, name: &str) -> TractResult<&'a [i64]> {
        let list = self.node.get_attr_opt_slice::<i64>(name)?;
        let list = list.unwrap_or_default();
        if !list.is_empty() {
            self.check(name, list.len())?;
        }
        Ok(list)
    }

    /// Fails unless this is as long as the lists before it.
    pub fn check(&mut self, name: &str, got: usize) -> TractResult<()> {
        let (first, length) = self.length.get_or_insert((name.to_owned(), got));
        ensure!(
            got == *length,
            "{name} has {got} items, and {first} has {length}"
        );
        Ok(())
    }
}

/// Reads nodes and votes; the names of the votes' attributes begin with `prefix`.
pub fn read(
    context: &ParsingContext,
    node: &NodeProto,
    prefix: &str,
    targets: usize,
) -> TractResult<ForestSpec> {
    let mut spec = ForestSpec {
        targets,
        ..ForestSpec::default()
    };
    let positions = read_nodes(context, node, &mut spec)?;
    let mut lists = Lists::of(node);
    let trees = lists.read(&format!("{prefix}_treeids"))?;
    let ids = lists.read(&format!("{prefix}_nodeids"))?;
    let voted = lists.read(&format!("{prefix}_ids"))?;
    let name = format!("{prefix}_weights");
    let weights = Numbers::read(context, node, &name)?;
    lists.check(&name, weights.values.len())?;
    spec.is_double |= weights.is_double;
    spec.votes = (0..trees.len())
        .map(|at| {
            let target = voted[at];
            let invalid = || format!("a leaf votes for target {target} of {targets}");
            Ok(VoteSpec {
                node: position(&positions, trees[at], ids[at])?,
                target: u32::try_from(target).ok().with_context(invalid)?,
                weight: weights.values[at],
            })
        })
        .collect::<TractResult<_>>()?;
    Ok(spec)
}

/// Where each tree's nodes are, by their numbers.
type Positions = HashMap<(i64, i64), u32>;

fn position(positions: &Positions, tree: i64, id: i64) -> TractResult<u32> {
    let found = positions.get(&(tree, id)).copied();
    found.with_context(|| format!("tree {tree} has no node {id}"))
}

fn read_nodes(
    context: &ParsingContext,
    node: &NodeProto,
    spec: &mut ForestSpec,
) -> TractResult<Positions> {
    let mut lists = Lists::of(node);
    let trees = lists.read("nodes_treeids")?;
    let ids = lists.read("nodes_nodeids")?;
    let features = lists.read("nodes_featureids")?;
    let on_true = lists.read("nodes_truenodeids")?;
    let on_false = lists.read("nodes_falsenodeids")?;
    let missing = lists.read_flags("nodes_missing_value_tracks_true")?;
    let modes = node.get_attr_tvec::<&str>("nodes_modes")?;
    lists.check("nodes_modes", modes.len())?;
    let thresholds = Numbers::read(context, node, "nodes_values")?;
    lists.check("nodes_values", thresholds.values.len())?;
    spec.is_double |= thresholds.is_double;
    ensure!(
        u32::try_from(trees.len()).is_ok(),
        "there are more than 4 billion nodes"
    );

    let mut positions = Positions::with_capacity(trees.len());
    let mut known_trees = HashSet::new();
    for ((tree, id), at) in trees.iter().zip(ids).zip(0..) {
        ensure!(
            positions.insert((*tree, *id), at).is_none(),
            "tree {tree} has node {id} twice"
        );
        // A tree's first node is its root.
        if known_trees.insert(*tree) {
            spec.roots.push(at);
        }
    }
    for at in 0..trees.len() {
        if modes[at] == "LEAF" {
            spec.nodes.push(NodeSpec::Leaf);
            continue;
        }
        let feature = features[at];
        spec.nodes.push(NodeSpec::Branch(BranchSpec {
            feature: u32::try_from(feature)
                .ok()
                .with_context(|| format!("feature {feature} is not valid"))?,
            threshold: thresholds.values[at],
            mode: Mode::from_name(modes[at])
                .with_context(|| format!("unknown mode {}", modes[at]))?,
            missing_is_true: missing.get(at).is_some_and(|tracks| *tracks != 0),
            on_true: position(&positions, trees[at], on_true[at])?,
            on_false: position(&positions, trees[at], on_false[at])?,
        }));
    }
    Ok(positions)
}
