//! What an ensemble's attributes say, with names resolved to positions: the form that all operators are read into.

/// How a branch compares its feature with its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    /// Is it in the set of this number?
    Member(u32),
}

impl Mode {
    /// The mode of this name in ai.onnx.ml.
    pub fn from_name(name: &str) -> Option<Mode> {
        let names = [
            "BRANCH_LEQ",
            "BRANCH_LT",
            "BRANCH_GTE",
            "BRANCH_GT",
            "BRANCH_EQ",
            "BRANCH_NEQ",
        ];
        Mode::from_number(names.iter().position(|known| *known == name)?)
    }

    /// The mode of this number in the operator TreeEnsemble, but for membership.
    pub fn from_number(number: usize) -> Option<Mode> {
        let modes = [
            Mode::Leq,
            Mode::Lt,
            Mode::Gte,
            Mode::Gt,
            Mode::Eq,
            Mode::Neq,
        ];
        modes.get(number).copied()
    }
}

/// A node of a tree; others are named by their position in [`ForestSpec::nodes`].
#[derive(Debug, Clone, Copy)]
pub enum NodeSpec {
    Leaf,
    Branch(BranchSpec),
}

/// A node that asks a question.
#[derive(Debug, Clone, Copy)]
pub struct BranchSpec {
    pub feature: u32,
    pub threshold: f64,
    pub mode: Mode,
    /// Whether a missing value takes the *true* branch.
    pub missing_is_true: bool,
    pub on_true: u32,
    pub on_false: u32,
}

/// What a leaf adds to one target.
#[derive(Debug, Clone, Copy)]
pub struct VoteSpec {
    pub node: u32,
    pub target: u32,
    pub weight: f64,
}

/// A whole ensemble. Positions may be out of bounds and nodes may form cycles: the layout refuses them.
#[derive(Debug, Default)]
pub struct ForestSpec {
    pub nodes: Vec<NodeSpec>,
    /// Each tree's first node.
    pub roots: Vec<u32>,
    pub votes: Vec<VoteSpec>,
    pub sets: Vec<Vec<f64>>,
    pub targets: usize,
    /// Whether the attributes are in double precision.
    pub is_double: bool,
}

impl ForestSpec {
    /// The least number of features that a row must have.
    pub fn features(&self) -> usize {
        let needed = self.nodes.iter().map(|node| match node {
            NodeSpec::Leaf => 0,
            NodeSpec::Branch(branch) => branch.feature as usize + 1,
        });
        needed.max().unwrap_or(0)
    }
}
