//! Decision trees laid out for the cache, and what they say about rows.
//!
//! [`spec`] is what the operators' attributes say, checked; [`node`] how a branch is stored so that one comparison
//! decides it; [`layout`] turns the first into the second; [`walk`] leads several rows (or one row through several
//! trees) at once; [`votes`] adds up what the leaves say; [`score`] does all of it for many rows. A [`Forest`] holds only indices that are in bounds, and every
//! tree is a tree: shared nodes are copied, and cycles refused.

mod layout;
mod node;
mod rows;
mod score;
pub mod spec;
#[cfg(test)]
mod tests;
mod votes;
mod walk;

use std::fmt::Debug;
use std::ops::AddAssign;

pub use node::{Compact, Node, Wide};
use rows::Slot;
use votes::Leaves;

/// What trees compare and add up: FP32 or FP64.
pub trait Value: Copy + Debug + PartialOrd + AddAssign + Send + Sync + 'static {
    const ZERO: Self;
    const INFINITY: Self;
    const NAN: Self;

    fn of(value: f64) -> Self;
    fn negated(self) -> Self;
    /// The next smaller number; NaN where there is none.
    fn below(self) -> Self;
    fn over(self, count: usize) -> Self;
    /// A whole number in the bits of a value, for leaves that point to their votes.
    fn from_index(index: u32) -> Self;
    fn index(self) -> u32;
    /// The values as FP32, without a copy where they are.
    fn narrow(values: Vec<Self>) -> Vec<f32>;
}

macro_rules! value {
    ($float:ty, $bits:ty, $narrow:expr) => {
        impl Value for $float {
            const ZERO: Self = 0.0;
            const INFINITY: Self = <$float>::INFINITY;
            const NAN: Self = <$float>::NAN;

            fn of(value: f64) -> Self {
                value as $float
            }

            fn negated(self) -> Self {
                -self
            }

            fn below(self) -> Self {
                if self == -Self::INFINITY {
                    return Self::NAN;
                }
                self.next_down()
            }

            fn over(self, count: usize) -> Self {
                self / count as $float
            }

            fn from_index(index: u32) -> Self {
                <$float>::from_bits(index.into())
            }

            fn index(self) -> u32 {
                self.to_bits() as u32
            }

            fn narrow(values: Vec<Self>) -> Vec<f32> {
                $narrow(values)
            }
        }
    };
}

value!(f32, u32, std::convert::identity);
value!(f64, u64, |values: Vec<f64>| values
    .into_iter()
    .map(|value| value as f32)
    .collect());

/// How the votes for a target become its score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// A whole ensemble of trees.
#[derive(Debug)]
pub struct Forest<N: Node> {
    /// Every tree's root, and then its other nodes: those that a branch leads to stand side by side.
    nodes: Vec<N>,
    trees: Vec<Tree>,
    leaves: Leaves<N::Value>,
    /// The columns of a row that the nodes look at.
    slots: Vec<Slot>,
    /// How many low bits of a node's link name its slot.
    slot_bits: u32,
    /// The members of the sets that nodes look up, sorted.
    sets: Vec<Vec<N::Value>>,
    targets: usize,
}

#[derive(Debug, Clone, Copy)]
struct Tree {
    root: u32,
    /// How many branches there are at most from the root to a leaf.
    depth: u32,
    /// The target that all of the tree's leaves vote for, where that is so in all trees.
    target: u32,
}

/// What the trees say about some rows.
#[derive(Debug)]
pub struct Scores<V> {
    /// Row by row, a value for each target; zero where no leaf voted.
    pub values: Vec<V>,
    /// Whether any leaf voted for the target; one list for all rows, or one for each.
    voted: Vec<bool>,
    targets: usize,
}

impl<V> Scores<V> {
    /// Whether any leaf voted, for each target of this row.
    pub fn voted(&self, row: usize) -> &[bool] {
        match self.voted.len() == self.targets {
            true => &self.voted,
            false => &self.voted[row * self.targets..(row + 1) * self.targets],
        }
    }
}
