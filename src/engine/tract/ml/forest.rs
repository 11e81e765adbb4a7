//! Decision trees laid out for the cache, and the walk through them.
//!
//! A tree's nodes stand in depth-first order, so that the branch that is taken on *true* is the next node; the other
//! is an index. Leaves point into one list of votes.

use std::collections::HashMap;

/// How a node compares its feature with its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    Leaf,
}

impl Mode {
    /// The mode of this name in ai.onnx.ml.
    pub fn from_name(name: &str) -> Option<Mode> {
        Some(match name {
            "BRANCH_LEQ" => Mode::Leq,
            "BRANCH_LT" => Mode::Lt,
            "BRANCH_GTE" => Mode::Gte,
            "BRANCH_GT" => Mode::Gt,
            "BRANCH_EQ" => Mode::Eq,
            "BRANCH_NEQ" => Mode::Neq,
            "LEAF" => Mode::Leaf,
            _ => return None,
        })
    }
}

/// A node as the model's attributes have it.
#[derive(Debug, Clone, Copy)]
pub struct NodeSpec {
    pub tree: i64,
    pub node: i64,
    pub feature: i64,
    pub threshold: f32,
    pub mode: Mode,
    pub on_true: i64,
    pub on_false: i64,
    /// Whether a missing value takes the *true* branch.
    pub missing_is_true: bool,
}

/// A leaf's vote as the model's attributes have it.
#[derive(Debug, Clone, Copy)]
pub struct VoteSpec {
    pub tree: i64,
    pub node: i64,
    pub target: i64,
    pub weight: f32,
}

/// What a leaf adds to one target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vote {
    pub target: u32,
    pub weight: f32,
}

/// A node ready to be walked: 16 bytes.
#[derive(Debug, Clone, Copy)]
struct Node {
    threshold: f32,
    feature: u32,
    /// For a branch, the node that is taken on *false*; for a leaf, where its votes begin.
    other: u32,
    mode: Mode,
    missing_is_true: bool,
    /// For a leaf, how many votes it has.
    votes: u16,
}

/// A whole ensemble.
#[derive(Debug)]
pub struct Forest {
    nodes: Vec<Node>,
    roots: Vec<u32>,
    votes: Vec<Vote>,
    /// The least number of features that a row must have.
    features: usize,
}

impl Forest {
    /// Checks the attributes and lays the trees out.
    pub fn new(nodes: &[NodeSpec], votes: &[VoteSpec], targets: usize) -> Result<Forest, String> {
        let mut by_id: HashMap<(i64, i64), &NodeSpec> = HashMap::with_capacity(nodes.len());
        let mut trees = Vec::new();
        for node in nodes {
            if by_id.insert((node.tree, node.node), node).is_some() {
                return Err(format!("tree {} has node {} twice", node.tree, node.node));
            }
            // A tree's first node is its root.
            if !trees.iter().any(|(tree, _)| *tree == node.tree) {
                trees.push((node.tree, node.node));
            }
        }
        let mut votes_of: HashMap<(i64, i64), Vec<Vote>> = HashMap::new();
        for vote in votes {
            let target = u32::try_from(vote.target)
                .ok()
                .filter(|target| (*target as usize) < targets);
            let target = target
                .ok_or_else(|| format!("a leaf votes for target {} of {targets}", vote.target))?;
            votes_of
                .entry((vote.tree, vote.node))
                .or_default()
                .push(Vote {
                    target,
                    weight: vote.weight,
                });
        }
        let mut layout = Layout {
            by_id,
            votes_of,
            forest: Forest::empty(),
        };
        for (tree, root) in trees {
            let root = layout.place_tree(tree, root)?;
            layout.forest.roots.push(root);
        }
        Ok(layout.forest)
    }

    fn empty() -> Forest {
        Forest {
            nodes: Vec::new(),
            roots: Vec::new(),
            votes: Vec::new(),
            features: 0,
        }
    }

    /// The least number of features that a row must have.
    pub fn features(&self) -> usize {
        self.features
    }

    /// How many trees there are.
    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    /// The votes of the leaf that each tree leads `row` to.
    pub fn votes<'a, T: Feature>(&'a self, row: &'a [T]) -> impl Iterator<Item = &'a [Vote]> {
        self.roots.iter().map(|root| self.walk(*root as usize, row))
    }

    fn walk<T: Feature>(&self, root: usize, row: &[T]) -> &[Vote] {
        let mut at = root;
        loop {
            let node = &self.nodes[at];
            if node.mode == Mode::Leaf {
                let start = node.other as usize;
                return &self.votes[start..start + node.votes as usize];
            }
            let (value, threshold) = (row[node.feature as usize], T::from(node.threshold));
            let holds = match node.mode {
                Mode::Leq => value <= threshold,
                Mode::Lt => value < threshold,
                Mode::Gte => value >= threshold,
                Mode::Gt => value > threshold,
                Mode::Eq => value == threshold,
                Mode::Neq | Mode::Leaf => value != threshold,
            };
            let is_missing = value.partial_cmp(&value).is_none();
            at = if holds || (node.missing_is_true && is_missing) {
                at + 1
            } else {
                node.other as usize
            };
        }
    }
}

/// A feature's value; a missing one is NaN.
pub trait Feature: Copy + PartialOrd + From<f32> {}

impl Feature for f32 {}
impl Feature for f64 {}

/// Places trees depth first, without recursion: a hostile file may hold a very deep one.
struct Layout<'a> {
    by_id: HashMap<(i64, i64), &'a NodeSpec>,
    votes_of: HashMap<(i64, i64), Vec<Vote>>,
    forest: Forest,
}

impl Layout<'_> {
    fn place_tree(&mut self, tree: i64, root: i64) -> Result<u32, String> {
        let first = self.forest.nodes.len();
        // Nodes to place, each with the branch that waits for its index.
        let mut waiting = vec![(root, None)];
        let mut placed = 0;
        while let Some((id, parent)) = waiting.pop() {
            let spec = self
                .by_id
                .get(&(tree, id))
                .ok_or_else(|| format!("tree {tree} has no node {id}"))?;
            placed += 1;
            if placed > self.by_id.len() {
                return Err(format!("tree {tree} has a cycle"));
            }
            let at = index(self.forest.nodes.len())?;
            if let Some(parent) = parent {
                self.forest.nodes[parent as usize].other = at;
            }
            let node = match spec.mode {
                Mode::Leaf => self.leaf(spec)?,
                _ => {
                    waiting.push((spec.on_false, Some(at)));
                    waiting.push((spec.on_true, None));
                    self.branch(spec)?
                }
            };
            self.forest.nodes.push(node);
        }
        index(first)
    }

    fn branch(&mut self, spec: &NodeSpec) -> Result<Node, String> {
        let feature = u32::try_from(spec.feature)
            .map_err(|_| format!("feature {} is not valid", spec.feature))?;
        self.forest.features = self.forest.features.max(feature as usize + 1);
        let NodeSpec {
            threshold,
            mode,
            missing_is_true,
            ..
        } = *spec;
        Ok(Node {
            threshold,
            feature,
            other: 0,
            mode,
            missing_is_true,
            votes: 0,
        })
    }

    fn leaf(&mut self, spec: &NodeSpec) -> Result<Node, String> {
        let votes = self
            .votes_of
            .get(&(spec.tree, spec.node))
            .map_or(&[][..], Vec::as_slice);
        let count = u16::try_from(votes.len())
            .map_err(|_| "a leaf has more than 65,535 votes".to_owned())?;
        let start = index(self.forest.votes.len())?;
        self.forest.votes.extend_from_slice(votes);
        Ok(Node {
            threshold: 0.0,
            feature: 0,
            other: start,
            mode: Mode::Leaf,
            missing_is_true: false,
            votes: count,
        })
    }
}

fn index(at: usize) -> Result<u32, String> {
    u32::try_from(at).map_err(|_| "the ensemble has more than 4 billion nodes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: i64, mode: Mode, on_true: i64, on_false: i64) -> NodeSpec {
        NodeSpec {
            tree: 0,
            node: id,
            feature: 0,
            threshold: 0.5,
            mode,
            on_true,
            on_false,
            missing_is_true: true,
        }
    }

    fn stump(mode: Mode) -> Forest {
        let nodes = [
            node(0, mode, 1, 2),
            node(1, Mode::Leaf, 0, 0),
            node(2, Mode::Leaf, 0, 0),
        ];
        let vote = |node, weight| VoteSpec {
            tree: 0,
            node,
            target: 0,
            weight,
        };
        Forest::new(&nodes, &[vote(1, 1.0), vote(2, 2.0)], 1).expect("a stump is valid")
    }

    fn answer(forest: &Forest, value: f32) -> f32 {
        forest
            .votes(&[value])
            .flatten()
            .map(|vote| vote.weight)
            .sum()
    }

    #[test]
    fn every_mode_compares_as_its_name_says() {
        let at = |mode, value| answer(&stump(mode), value) == 1.0;
        assert!(at(Mode::Leq, 0.5) && !at(Mode::Leq, 0.6));
        assert!(at(Mode::Lt, 0.4) && !at(Mode::Lt, 0.5));
        assert!(at(Mode::Gte, 0.5) && !at(Mode::Gte, 0.4));
        assert!(at(Mode::Gt, 0.6) && !at(Mode::Gt, 0.5));
        assert!(at(Mode::Eq, 0.5) && !at(Mode::Eq, 0.4));
        assert!(at(Mode::Neq, 0.4) && !at(Mode::Neq, 0.5));
        assert!(
            at(Mode::Lt, f32::NAN),
            "a missing value is told to take the true branch"
        );
    }

    #[test]
    fn malformed_trees_are_refused() {
        let cycle = [node(0, Mode::Leq, 0, 0)];
        assert!(Forest::new(&cycle, &[], 1).is_err());
        let dangling = [node(0, Mode::Leq, 1, 2)];
        assert!(Forest::new(&dangling, &[], 1).is_err());
        let twice = [node(0, Mode::Leaf, 0, 0), node(0, Mode::Leaf, 0, 0)];
        assert!(Forest::new(&twice, &[], 1).is_err());
        let vote = VoteSpec {
            tree: 0,
            node: 0,
            target: 3,
            weight: 1.0,
        };
        assert!(Forest::new(&[node(0, Mode::Leaf, 0, 0)], &[vote], 1).is_err());
    }
}
