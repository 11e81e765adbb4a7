//! From what the attributes say to nodes in memory, without recursion: a hostile file may hold a very deep tree.
//!
//! Nodes stand depth first, so that the way down stays in few cache lines. Where branches share a node it is copied,
//! but for the form that exporters give to sets (a chain of equalities with one node on *true*), which becomes a set.

use std::collections::{HashMap, HashSet};

use super::node::{Node, Question, Test};
use super::rows::Slot;
use super::spec::{BranchSpec, ForestSpec, Mode, NodeSpec};
use super::votes::{Leaf, Leaves};
use super::{Forest, Tree, Value};

/// Copies of shared nodes may make the forest so many times as large as its file says.
const LARGEST_GROWTH: usize = 4;

impl<N: Node> Forest<N> {
    /// Lays the trees out; `None` when they need a larger kind of node.
    pub fn new(spec: &ForestSpec) -> Result<Option<Forest<N>>, String> {
        let slots = slots(spec);
        let slot_of = slots.iter().copied().zip(0..).collect();
        let mut layout = Layout {
            spec,
            slot_bits: usize::BITS - slots.len().leading_zeros(),
            slot_of,
            sets: spec.sets.iter().map(|set| sorted(set)).collect(),
            nodes: Vec::with_capacity(spec.nodes.len() + spec.roots.len()),
            leaves: Vec::new(),
            steps_left: spec.nodes.len().saturating_mul(LARGEST_GROWTH),
        };
        let mut trees = Vec::with_capacity(spec.roots.len());
        for (number, root) in spec.roots.iter().enumerate() {
            let Some(tree) = layout.place_tree(number, *root)? else {
                return Ok(None);
            };
            trees.push(tree);
        }
        let Layout {
            mut nodes,
            leaves,
            sets,
            slot_bits,
            ..
        } = layout;
        let missing_slot = slots.len() as u32;
        let leaves = Leaves::new(spec, &leaves, &mut trees, |at, says| {
            nodes[at as usize] = N::new(Test::AtMost, says, missing_slot, slot_bits, 0)?;
            Some(())
        })?;
        Ok(leaves.map(|leaves| Forest {
            nodes,
            trees,
            leaves,
            slots,
            slot_bits,
            sets,
            targets: spec.targets,
        }))
    }
}

/// The columns that the branches look at, in the order of the features.
fn slots(spec: &ForestSpec) -> Vec<Slot> {
    let mut seen = HashSet::new();
    for node in &spec.nodes {
        if let NodeSpec::Branch(branch) = node {
            seen.insert(slot(branch));
        }
    }
    let mut slots: Vec<Slot> = seen.into_iter().collect();
    slots.sort_unstable_by_key(|slot| (slot.negate, slot.feature));
    slots
}

fn slot(branch: &BranchSpec) -> Slot {
    Slot {
        feature: branch.feature,
        negate: Question::<f64>::new(branch).negate,
    }
}

/// A set's members as they are searched for.
fn sorted<V: Value>(members: &[f64]) -> Vec<V> {
    let mut members: Vec<f64> = members
        .iter()
        .copied()
        .filter(|member| !member.is_nan())
        .collect();
    members.sort_by(f64::total_cmp);
    members.into_iter().map(V::of).collect()
}

struct Layout<'a, N: Node> {
    spec: &'a ForestSpec,
    slot_of: HashMap<Slot, u32>,
    slot_bits: u32,
    sets: Vec<Vec<N::Value>>,
    nodes: Vec<N>,
    leaves: Vec<Leaf>,
    /// Cycles end when this does.
    steps_left: usize,
}

/// A node that waits for being placed.
struct Waiting {
    node: u32,
    at: usize,
    level: u32,
}

impl<N: Node> Layout<'_, N> {
    fn place_tree(&mut self, number: usize, node: u32) -> Result<Option<Tree>, String> {
        let root = self.reserve_pair()?;
        let mut depth = 0;
        let mut waiting = vec![Waiting {
            node,
            at: root as usize,
            level: 0,
        }];
        while let Some(Waiting { node, at, level }) = waiting.pop() {
            depth = depth.max(level);
            let branch = match self.node(node)? {
                NodeSpec::Branch(branch) => branch,
                NodeSpec::Leaf => {
                    let tree = number as u32;
                    self.leaves.push(Leaf {
                        node,
                        tree,
                        at: at as u32,
                    });
                    continue;
                }
            };
            let branch = self.joined(branch)?;
            let question = Question::new(&branch);
            let pair = self.reserve_pair()?;
            let slot = self.slot_of[&slot(&branch)];
            let offset = pair - at as u32;
            let placed = N::new(
                question.test,
                question.threshold,
                slot,
                self.slot_bits,
                offset,
            );
            let Some(placed) = placed else {
                return Ok(None);
            };
            self.nodes[at] = placed;
            let (first, second) = match question.second_is_true {
                true => (branch.on_false, branch.on_true),
                false => (branch.on_true, branch.on_false),
            };
            for (node, at) in [(second, pair + 1), (first, pair)] {
                waiting.push(Waiting {
                    node,
                    at: at as usize,
                    level: level + 1,
                });
            }
        }
        Ok(Some(Tree {
            root,
            depth,
            target: 0,
        }))
    }

    /// The next node to look at, which costs a step.
    fn node(&mut self, node: u32) -> Result<NodeSpec, String> {
        let Some(left) = self.steps_left.checked_sub(1) else {
            return Err(
                "the trees have a cycle, or many branches that lead to one node".to_owned(),
            );
        };
        self.steps_left = left;
        let found = self.spec.nodes.get(node as usize).copied();
        found.ok_or_else(|| format!("a branch leads to node {node}, which there is not"))
    }

    /// Makes a chain of equalities of one feature that lead to one node a question about a set.
    fn joined(&mut self, first: BranchSpec) -> Result<BranchSpec, String> {
        let (mut members, mut last) = (vec![first.threshold], first);
        while last.mode == Mode::Eq {
            let next = self.spec.nodes.get(last.on_false as usize);
            let Some(NodeSpec::Branch(next)) = next.copied() else {
                break;
            };
            let is_same = |of: fn(&BranchSpec) -> u32| of(&next) == of(&first);
            if next.mode != Mode::Eq
                || !is_same(|branch| branch.feature)
                || !is_same(|branch| branch.on_true)
                || next.missing_is_true != first.missing_is_true
            {
                break;
            }
            self.node(last.on_false)?;
            members.push(next.threshold);
            last = next;
        }
        if members.len() == 1 {
            return Ok(first);
        }
        self.sets.push(sorted(&members));
        Ok(BranchSpec {
            mode: Mode::Member((self.sets.len() - 1) as u32),
            on_false: last.on_false,
            ..first
        })
    }

    /// Room for two neighbours; they stay empty leaves until they are placed.
    fn reserve_pair(&mut self) -> Result<u32, String> {
        let too_many = || "the ensemble has more than 4 billion nodes".to_owned();
        let at = u32::try_from(self.nodes.len()).map_err(|_| too_many())?;
        let empty = N::new(Test::AtMost, N::Value::ZERO, 0, 0, 0).ok_or_else(too_many)?;
        self.nodes.extend([empty; 2]);
        Ok(at)
    }
}
