//! What leaves say, and how it is added up.

use super::node::Node;
use super::spec::{ForestSpec, NodeSpec, VoteSpec};
use super::{Tree, Value};

/// A leaf that was placed: where, for which node, in which tree.
#[derive(Debug, Clone, Copy)]
pub struct Leaf {
    pub node: u32,
    pub tree: u32,
    pub at: u32,
}

/// What a leaf adds to one target.
#[derive(Debug, Clone, Copy)]
pub struct Vote<V> {
    target: u32,
    weight: V,
}

/// Where the votes are.
#[derive(Debug)]
pub enum Leaves<V> {
    /// One vote a leaf, for one target a tree: the leaf's threshold is its weight.
    One,
    /// Every leaf votes for every target: the leaf's threshold is the number of its row in this table.
    All(Vec<V>),
    /// Anything else: the leaf's threshold is the number of a list.
    Lists {
        starts: Vec<u32>,
        votes: Vec<Vote<V>>,
    },
}

impl<V: Value> Leaves<V> {
    /// Tells `say` what each leaf's threshold holds; `None` when that cannot be stored.
    pub fn new(
        spec: &ForestSpec,
        leaves: &[Leaf],
        trees: &mut [Tree],
        mut say: impl FnMut(u32, V) -> Option<()>,
    ) -> Result<Option<Leaves<V>>, String> {
        let lists = Lists::new(spec)?;
        let says: Vec<V>;
        let kind = if lists.are_one_a_tree(leaves, trees) {
            says = leaves
                .iter()
                .map(|leaf| V::of(lists.of(leaf)[0].weight))
                .collect();
            Leaves::One
        } else {
            let number = |leaf: &Leaf| V::from_index(lists.number[leaf.node as usize]);
            says = leaves.iter().map(number).collect();
            lists.kept(spec.targets)
        };
        let told = leaves
            .iter()
            .zip(says)
            .try_for_each(|(leaf, says)| say(leaf.at, says));
        Ok(told.map(|()| kind))
    }

    /// Which targets every row's leaves vote for, where that is known beforehand.
    pub fn voted(&self, trees: &[Tree], targets: usize) -> Option<Vec<bool>> {
        match self {
            Leaves::One => {
                let mut voted = vec![false; targets];
                trees
                    .iter()
                    .for_each(|tree| voted[tree.target as usize] = true);
                Some(voted)
            }
            Leaves::All(_) => Some(vec![!trees.is_empty(); targets]),
            Leaves::Lists { .. } => None,
        }
    }

    /// Adds one tree's leaves, a leaf a row, to the rows' scores.
    #[inline(always)]
    pub fn add<N: Node<Value = V>>(
        &self,
        (tree, nodes): (&Tree, &[N]),
        leaves: &[usize],
        (scores, voted): (&mut [V], &mut [bool]),
        targets: usize,
        join: impl Fn(V, V) -> V,
    ) {
        let rows = scores.chunks_exact_mut(targets).zip(leaves);
        match self {
            Leaves::One => {
                let target = tree.target as usize;
                for (scores, leaf) in rows {
                    scores[target] = join(scores[target], nodes[*leaf].threshold());
                }
            }
            Leaves::All(votes) => {
                for (scores, leaf) in rows {
                    let start = nodes[*leaf].threshold().index() as usize * targets;
                    for (score, vote) in scores.iter_mut().zip(&votes[start..start + targets]) {
                        *score = join(*score, *vote);
                    }
                }
            }
            Leaves::Lists { starts, votes } => {
                for ((scores, leaf), voted) in rows.zip(voted.chunks_exact_mut(targets)) {
                    let list = nodes[*leaf].threshold().index() as usize;
                    for vote in &votes[starts[list] as usize..starts[list + 1] as usize] {
                        let target = vote.target as usize;
                        scores[target] = join(scores[target], vote.weight);
                        voted[target] = true;
                    }
                }
            }
        }
    }
}

/// The leaves' votes, gathered by leaf.
struct Lists {
    /// For each node that is a leaf, the number of its list.
    number: Vec<u32>,
    starts: Vec<u32>,
    votes: Vec<VoteSpec>,
}

impl Lists {
    fn new(spec: &ForestSpec) -> Result<Lists, String> {
        let is_leaf = |node: u32| match spec.nodes.get(node as usize) {
            Some(node) => Ok(matches!(node, NodeSpec::Leaf)),
            None => Err(format!(
                "there is a vote of node {node}, which there is not"
            )),
        };
        let mut votes = Vec::with_capacity(spec.votes.len());
        for vote in &spec.votes {
            if vote.target as usize >= spec.targets {
                let (target, targets) = (vote.target, spec.targets);
                return Err(format!("a leaf votes for target {target} of {targets}"));
            }
            // A branch's vote is never asked for.
            if is_leaf(vote.node)? {
                votes.push(*vote);
            }
        }
        u32::try_from(votes.len()).map_err(|_| "there are more than 4 billion votes".to_owned())?;
        // The sort is stable: votes for one target are added in the file's order.
        votes.sort_by_key(|vote| vote.node);
        let (mut number, mut starts, mut at) = (vec![0; spec.nodes.len()], vec![0], 0);
        for (node, number) in number.iter_mut().enumerate() {
            if matches!(spec.nodes[node], NodeSpec::Leaf) {
                *number = starts.len() as u32 - 1;
                let own = votes[at..]
                    .iter()
                    .take_while(|vote| vote.node as usize == node);
                at += own.count();
                starts.push(at as u32);
            }
        }
        Ok(Lists {
            number,
            starts,
            votes,
        })
    }

    fn of(&self, leaf: &Leaf) -> &[VoteSpec] {
        let list = self.number[leaf.node as usize] as usize;
        &self.votes[self.starts[list] as usize..self.starts[list + 1] as usize]
    }

    /// Whether each leaf has one vote and each tree one target, which the trees are then told.
    fn are_one_a_tree(&self, leaves: &[Leaf], trees: &mut [Tree]) -> bool {
        let mut target_of = vec![None; trees.len()];
        let are_one = leaves.iter().all(|leaf| match self.of(leaf) {
            [vote] => *target_of[leaf.tree as usize].get_or_insert(vote.target) == vote.target,
            _ => false,
        });
        if are_one {
            for (tree, target) in trees.iter_mut().zip(target_of) {
                tree.target = target.unwrap_or(0);
            }
        }
        are_one
    }

    fn kept<V: Value>(mut self, targets: usize) -> Leaves<V> {
        for at in 1..self.starts.len() {
            let list = self.starts[at - 1] as usize..self.starts[at] as usize;
            self.votes[list].sort_by_key(|vote| vote.target);
        }
        let is_full = |list: &[u32]| {
            let votes = &self.votes[list[0] as usize..list[1] as usize];
            votes.len() == targets && votes.iter().zip(0..).all(|(vote, at)| vote.target == at)
        };
        if self.starts.windows(2).all(is_full) {
            let weights = self.votes.iter().map(|vote| V::of(vote.weight));
            return Leaves::All(weights.collect());
        }
        let vote = |vote: &VoteSpec| Vote {
            target: vote.target,
            weight: V::of(vote.weight),
        };
        Leaves::Lists {
            votes: self.votes.iter().map(vote).collect(),
            starts: self.starts,
        }
    }
}
