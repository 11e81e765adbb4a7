//! Forests against a plain interpreter of their specification, and forests that must be refused.

use proptest::prelude::*;

use super::spec::{BranchSpec, ForestSpec, Mode, NodeSpec, VoteSpec};
use super::{Aggregate, Compact, Forest, Node, Value, Wide};

/// Values that thresholds and features are made of; few, so that they often meet.
const FINITE: [f64; 7] = [-1.5, -1.0, -0.0, 0.0, 0.25, 1.0, 3.0];
const OTHERS: [f64; 3] = [f64::NAN, f64::NEG_INFINITY, f64::INFINITY];
const SETS: u32 = 3;
const FEATURES: u32 = 3;

fn value() -> impl Strategy<Value = f64> {
    prop::sample::select([&FINITE[..], &OTHERS].concat())
}

/// A tree before its nodes have positions.
#[derive(Debug, Clone)]
enum Tree {
    Leaf,
    Branch(BranchSpec, Box<[Tree; 2]>),
}

fn tree(orders_only: bool) -> impl Strategy<Value = Tree> {
    let modes: usize = if orders_only { 4 } else { 7 };
    Just(Tree::Leaf).prop_recursive(6, 40, 2, move |inner| {
        let branch = (0..FEATURES, value(), 0..modes, 0..SETS, any::<bool>());
        let branch = branch.prop_map(|(feature, threshold, mode, set, missing_is_true)| {
            let mode = Mode::from_number(mode).unwrap_or(Mode::Member(set));
            BranchSpec {
                feature,
                threshold,
                mode,
                missing_is_true,
                on_true: 0,
                on_false: 0,
            }
        });
        (branch, inner.clone(), inner)
            .prop_map(|(branch, left, right)| Tree::Branch(branch, Box::new([left, right])))
    })
}

/// Gives a tree's nodes positions; returns its root's.
fn place(tree: &Tree, nodes: &mut Vec<NodeSpec>) -> u32 {
    let at = nodes.len();
    nodes.push(NodeSpec::Leaf);
    if let Tree::Branch(branch, children) = tree {
        let [on_true, on_false] = [0, 1].map(|child| place(&children[child], nodes));
        nodes[at] = NodeSpec::Branch(BranchSpec {
            on_true,
            on_false,
            ..*branch
        });
    }
    at as u32
}

/// Trees whose leaves have one vote each, one for each target, or any number.
fn forest(orders_only: bool) -> impl Strategy<Value = ForestSpec> {
    let trees = prop::collection::vec(tree(orders_only), 0..12);
    let sets = prop::collection::vec(prop::collection::vec(value(), 0..4), SETS as usize);
    (trees, sets, 1..4usize, 0..3u8, any::<u64>()).prop_map(|(trees, sets, targets, kind, seed)| {
        let mut spec = ForestSpec {
            targets,
            sets,
            ..ForestSpec::default()
        };
        for tree in &trees {
            let first = spec.nodes.len();
            let root = place(tree, &mut spec.nodes);
            spec.roots.push(root);
            for node in first..spec.nodes.len() {
                let random = seed.rotate_left(node as u32) ^ node as u64;
                let count = match kind {
                    0 => 1,
                    1 => targets,
                    _ => random as usize % 4,
                };
                for vote in 0..count {
                    let target = match kind {
                        0 => root as usize % targets,
                        1 => vote,
                        _ => (random as usize / 4 + vote) % targets,
                    };
                    spec.votes.push(VoteSpec {
                        node: node as u32,
                        target: target as u32,
                        weight: ((random >> vote) % 64) as f64 / 8.0 - 4.0,
                    });
                }
            }
        }
        spec
    })
}

fn rows() -> impl Strategy<Value = Vec<Vec<f64>>> {
    let row = prop::collection::vec(value(), FEATURES as usize);
    prop::collection::vec(row, 0..21)
}

/// The leaf that a tree leads to, as the operators' documentation says it.
fn leaf(spec: &ForestSpec, node: u32, row: &[f64]) -> u32 {
    let NodeSpec::Branch(branch) = spec.nodes[node as usize] else {
        return node;
    };
    let (value, threshold) = (row[branch.feature as usize], branch.threshold);
    let holds = match branch.mode {
        Mode::Leq => value <= threshold,
        Mode::Lt => value < threshold,
        Mode::Gte => value >= threshold,
        Mode::Gt => value > threshold,
        Mode::Eq => value == threshold,
        Mode::Neq => value != threshold,
        Mode::Member(set) => spec.sets[set as usize].contains(&value),
    };
    match holds || (value.is_nan() && branch.missing_is_true) {
        true => leaf(spec, branch.on_true, row),
        false => leaf(spec, branch.on_false, row),
    }
}

/// A row's score for a target; nothing where no leaf voted.
fn score(spec: &ForestSpec, row: &[f64], target: u32, aggregate: Aggregate) -> Option<f64> {
    let mut weights = Vec::new();
    for root in &spec.roots {
        let leaf = leaf(spec, *root, row);
        let votes = spec.votes.iter();
        let own = votes.filter(|vote| vote.node == leaf && vote.target == target);
        weights.extend(own.map(|vote| vote.weight));
    }
    match aggregate {
        _ if weights.is_empty() => None,
        Aggregate::Sum => Some(weights.iter().sum()),
        Aggregate::Average => Some(weights.iter().sum::<f64>() / spec.roots.len() as f64),
        Aggregate::Min => weights.into_iter().reduce(f64::min),
        Aggregate::Max => weights.into_iter().reduce(f64::max),
    }
}

const AGGREGATES: [Aggregate; 4] = [
    Aggregate::Sum,
    Aggregate::Average,
    Aggregate::Min,
    Aggregate::Max,
];

/// The rows' values are whole multiples of 1/8 or not finite, so that FP32 adds them up exactly.
fn check<N: Node>(spec: &ForestSpec, forest: &Forest<N>, rows: &[Vec<f64>]) {
    let rows_of_type: Vec<Vec<N::Value>> = rows
        .iter()
        .map(|row| row.iter().map(|value| N::Value::of(*value)).collect())
        .collect();
    let slices: Vec<&[N::Value]> = rows_of_type.iter().map(Vec::as_slice).collect();
    for aggregate in AGGREGATES {
        let found = forest.scores(&slices, aggregate);
        let values = N::Value::narrow(found.values.clone());
        for (at, value) in values.iter().enumerate() {
            let (row, target) = (at / spec.targets, at % spec.targets);
            let expected = score(spec, &rows[row], target as u32, aggregate);
            assert_eq!(*value, expected.unwrap_or(0.0) as f32, "{aggregate:?}");
            assert_eq!(found.voted(row)[target], expected.is_some());
        }
    }
}

fn check_wide(spec: &ForestSpec, rows: &[Vec<f64>]) {
    let single: Option<Forest<Wide<f32>>> = Forest::new(spec).expect("the trees are valid");
    check(spec, &single.expect("they are small"), rows);
    let double: Option<Forest<Wide<f64>>> = Forest::new(spec).expect("the trees are valid");
    check(spec, &double.expect("they are small"), rows);
}

proptest! {
    #[test]
    fn forests_of_any_question_answer_like_the_interpreter(spec in forest(false), rows in rows()) {
        check_wide(&spec, &rows);
    }

    #[test]
    fn forests_of_questions_about_order_answer_like_the_interpreter(spec in forest(true), rows in rows()) {
        let compact: Option<Forest<Compact>> = Forest::new(&spec).expect("the trees are valid");
        check(&spec, &compact.expect("they ask about order alone"), &rows);
        check_wide(&spec, &rows);
    }
}

fn branch(mode: Mode, threshold: f64, on_true: u32, on_false: u32) -> NodeSpec {
    NodeSpec::Branch(BranchSpec {
        feature: 0,
        threshold,
        mode,
        missing_is_true: false,
        on_true,
        on_false,
    })
}

fn one_tree(nodes: Vec<NodeSpec>) -> ForestSpec {
    let vote = |(at, _): (usize, &NodeSpec)| VoteSpec {
        node: at as u32,
        target: 0,
        weight: at as f64,
    };
    ForestSpec {
        votes: nodes.iter().enumerate().map(vote).collect(),
        nodes,
        roots: vec![0],
        targets: 1,
        ..ForestSpec::default()
    }
}

fn refused(spec: &ForestSpec) -> String {
    Forest::<Wide<f32>>::new(spec).expect_err("it is malformed")
}

#[test]
fn malformed_trees_are_refused() {
    let to = |on_true, on_false| branch(Mode::Leq, 0.5, on_true, on_false);
    assert!(refused(&one_tree(vec![to(0, 0)])).contains("cycle"));
    let turning = vec![to(1, 2), to(0, 2), NodeSpec::Leaf];
    assert!(refused(&one_tree(turning)).contains("cycle"));
    let endless_set = vec![branch(Mode::Eq, 1.0, 1, 0), NodeSpec::Leaf];
    assert!(refused(&one_tree(endless_set)).contains("cycle"));
    assert!(refused(&one_tree(vec![to(1, 2)])).contains("node"));
    let mut target = one_tree(vec![NodeSpec::Leaf]);
    target.votes[0].target = 3;
    assert!(refused(&target).contains("target 3 of 1"));
    let mut voter = one_tree(vec![NodeSpec::Leaf]);
    voter.votes[0].node = 3;
    assert!(refused(&voter).contains("node 3"));
}

/// Each node leads to the next by both branches: 2^60 ways.
#[test]
fn shared_nodes_do_not_fill_the_memory() {
    let step = |at: u32| branch(Mode::Leq, 0.5, at + 1, at + 1);
    let mut nodes: Vec<NodeSpec> = (0..60).map(step).collect();
    nodes.push(NodeSpec::Leaf);
    assert!(refused(&one_tree(nodes)).contains("many branches"));
}

#[test]
fn a_chain_of_equalities_with_one_node_on_true_is_a_set() {
    let members = 1000;
    let equal = |at: u32| branch(Mode::Eq, at.into(), members, at + 1);
    let mut nodes: Vec<NodeSpec> = (0..members).map(equal).collect();
    let shared = branch(Mode::Leq, 500.0, members + 2, members + 3);
    nodes[members as usize - 1] = branch(Mode::Eq, (members - 1).into(), members, members + 1);
    nodes.extend([shared, NodeSpec::Leaf, NodeSpec::Leaf, NodeSpec::Leaf]);
    let spec = one_tree(nodes);
    check_wide(&spec, &[vec![0.0], vec![700.0], vec![-1.0], vec![f64::NAN]]);
}

#[test]
fn very_deep_trees_are_walked_to_their_end() {
    let depth = 100_000;
    let mut nodes = Vec::new();
    for at in 0..depth {
        nodes.push(branch(Mode::Leq, at.into(), 2 * at + 1, 2 * at + 2));
        nodes.push(NodeSpec::Leaf);
    }
    nodes.push(NodeSpec::Leaf);
    let forest: Option<Forest<Compact>> = Forest::new(&one_tree(nodes)).expect("it is a tree");
    let rows: [&[f32]; 2] = [&[99_999.5], &[5.0]];
    let scores = forest.expect("it fits").scores(&rows, Aggregate::Sum);
    assert_eq!(scores.values, [200_000.0, 11.0]);
}

/// The root's offset does not fit beside the numbers of so many columns.
#[test]
fn what_a_compact_node_cannot_name_is_left_to_a_wide_one() {
    let leaves = 1u32 << 17;
    let mut nodes: Vec<NodeSpec> = (0..leaves - 1)
        .map(|at| branch(Mode::Leq, 0.0, 2 * at + 1, 2 * at + 2))
        .collect();
    for (feature, node) in nodes.iter_mut().enumerate() {
        if let NodeSpec::Branch(branch) = node {
            branch.feature = feature as u32;
        }
    }
    nodes.extend(vec![NodeSpec::Leaf; leaves as usize]);
    let spec = one_tree(nodes);
    let compact = Forest::<Compact>::new(&spec).expect("it is a tree");
    assert!(compact.is_none());
    let wide = Forest::<Wide<f32>>::new(&spec).expect("it is a tree");
    let row = vec![1.0f32; leaves as usize];
    let scores = wide.expect("it fits").scores(&[&row[..]], Aggregate::Sum);
    assert_eq!(scores.values, [(2 * leaves - 2) as f32]);
}
