//! Scores of many rows: blocks of rows, each led through one tree after the other.
//!
//! In a block a tree's nodes are read from memory once for all rows. Rows that do not fill all lanes are led through
//! several trees at once instead. Either way the votes are added in the trees' order, as ONNX Runtime adds them.

use super::node::Node;
use super::rows::{prepare_group, prepare_row};
use super::walk::{Ground, LANES};
use super::{Aggregate, Forest, Scores, Value};

/// A block's rows are as many as fill this, so that they stay in the second-level cache.
const BLOCK_BYTES: usize = 128 << 10;

/// Where a block's scores go.
struct Tally<'a, V> {
    scores: &'a mut [V],
    /// Empty where it is known beforehand.
    voted: &'a mut [bool],
}

impl<N: Node> Forest<N> {
    /// The scores of rows of `features` values each.
    pub fn scores<E: Copy + Into<N::Value>>(
        &self,
        rows: &[&[E]],
        aggregate: Aggregate,
    ) -> Scores<N::Value> {
        let known = self.leaves.voted(&self.trees, self.targets);
        let cells = rows.len() * self.targets;
        let start = match aggregate {
            Aggregate::Sum | Aggregate::Average => N::Value::ZERO,
            Aggregate::Min => N::Value::INFINITY,
            Aggregate::Max => N::Value::INFINITY.negated(),
        };
        let mut values = vec![start; cells];
        let mut voted = vec![false; if known.is_none() { cells } else { 0 }];
        let tally = Tally {
            scores: &mut values,
            voted: &mut voted,
        };
        match aggregate {
            Aggregate::Sum | Aggregate::Average => self.run(rows, tally, |mut sum, vote| {
                sum += vote;
                sum
            }),
            Aggregate::Min => self.run(rows, tally, |a, b| if b < a { b } else { a }),
            Aggregate::Max => self.run(rows, tally, |a, b| if b > a { b } else { a }),
        }
        let mut scores = Scores {
            values,
            voted: known.unwrap_or(voted),
            targets: self.targets,
        };
        scores.finish(rows.len(), aggregate, self.trees.len());
        scores
    }

    fn run<E: Copy + Into<N::Value>>(
        &self,
        rows: &[&[E]],
        tally: Tally<N::Value>,
        join: impl Fn(N::Value, N::Value) -> N::Value + Copy,
    ) {
        let width = self.slots.len() + 1;
        let most = BLOCK_BYTES / (width * LANES * size_of::<N::Value>());
        let most = most.clamp(1, 1024) * LANES;
        let (grouped, rest) = rows.split_at(rows.len() / LANES * LANES);
        let Tally { scores, voted } = tally;
        let (scores, scores_of_rest) = scores.split_at_mut(grouped.len() * self.targets);
        let (voted, voted_of_rest) = voted.split_at_mut(voted.len().min(scores.len()));
        let mut prepared = vec![[N::Value::NAN; LANES]; width * most.min(grouped.len()) / LANES];
        let mut leaves = vec![0; most.min(grouped.len())];
        let cells = most * self.targets;
        let mut voted = voted.chunks_mut(cells);
        for (rows, scores) in grouped.chunks(most).zip(scores.chunks_mut(cells)) {
            let tally = Tally {
                scores,
                voted: voted.next().unwrap_or_default(),
            };
            let prepared = &mut prepared[..rows.len() / LANES * width];
            self.run_block(rows, tally, (prepared, &mut leaves[..rows.len()]), join);
        }
        let mut voted = voted_of_rest.chunks_mut(self.targets);
        let mut prepared = vec![N::Value::NAN; width];
        for (row, scores) in rest.iter().zip(scores_of_rest.chunks_mut(self.targets)) {
            let tally = Tally {
                scores,
                voted: voted.next().unwrap_or_default(),
            };
            prepare_row(&self.slots, row, &mut prepared);
            self.run_row(&prepared, tally, join);
        }
    }

    /// Leads groups of rows through one tree after the other.
    fn run_block<E: Copy + Into<N::Value>>(
        &self,
        rows: &[&[E]],
        tally: Tally<N::Value>,
        (prepared, leaves): (&mut [[N::Value; LANES]], &mut [usize]),
        join: impl Fn(N::Value, N::Value) -> N::Value + Copy,
    ) {
        let width = self.slots.len() + 1;
        let groups = rows.as_chunks::<LANES>().0;
        for (group, prepared) in groups.iter().zip(prepared.chunks_exact_mut(width)) {
            prepare_group(&self.slots, *group, prepared);
        }
        let ground = self.ground();
        for tree in &self.trees {
            let arrived = leaves.as_chunks_mut::<LANES>().0;
            for (group, arrived) in prepared.chunks_exact(width).zip(arrived) {
                let root = [tree.root as usize; LANES];
                *arrived = ground.walk(root, tree.depth, |slot, lane| group[slot][lane]);
            }
            let scores = (&mut *tally.scores, &mut *tally.voted);
            self.leaves
                .add((tree, &self.nodes), leaves, scores, self.targets, join);
        }
    }

    /// Leads one row through groups of trees.
    fn run_row(
        &self,
        prepared: &[N::Value],
        tally: Tally<N::Value>,
        join: impl Fn(N::Value, N::Value) -> N::Value + Copy,
    ) {
        let ground = self.ground();
        for trees in self.trees.chunks(LANES) {
            // A last group that is not full goes through its first tree more than once.
            let tree = |lane: usize| trees.get(lane).unwrap_or(&trees[0]);
            let roots = std::array::from_fn(|lane| tree(lane).root as usize);
            let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
            let arrived = ground.walk(roots, depth, |slot, _| prepared[slot]);
            for (tree, leaf) in trees.iter().zip(arrived) {
                let scores = (&mut *tally.scores, &mut *tally.voted);
                self.leaves
                    .add((tree, &self.nodes), &[leaf], scores, self.targets, join);
            }
        }
    }

    fn ground(&self) -> Ground<'_, N> {
        Ground {
            nodes: &self.nodes,
            slot_bits: self.slot_bits,
            sets: &self.sets,
        }
    }
}

impl<V: Value> Scores<V> {
    fn finish(&mut self, rows: usize, aggregate: Aggregate, trees: usize) {
        match aggregate {
            Aggregate::Sum => {}
            Aggregate::Average => {
                for value in &mut self.values {
                    *value = value.over(trees.max(1));
                }
            }
            Aggregate::Min | Aggregate::Max => {
                for row in 0..rows {
                    for target in 0..self.targets {
                        if !self.voted(row)[target] {
                            self.values[row * self.targets + target] = V::ZERO;
                        }
                    }
                }
            }
        }
    }
}
