//! A branch as it is stored: one comparison decides which of two neighbours comes next.
//!
//! Every question about order becomes *is ±x at most t*: `x < t` is `x <= below(t)`, and `x >= t` is `-x <= -t`. The
//! neighbour that is taken when the comparison holds is the second, and a missing value, for which it never holds,
//! leads to the first: which of *true* and *false* stands first follows from where missing values go. A leaf is a node
//! whose link leads to itself and whose column is always missing, so that a walk may take a step too many; its
//! threshold holds what it says.

use std::cmp::Ordering;

use super::Value;
use super::spec::{BranchSpec, Mode};

/// When a node's second neighbour is taken; never for a missing value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    AtMost,
    Equal,
    Unequal,
    In,
    NotIn,
}

/// A branch's question in normal form.
#[derive(Debug, Clone, Copy)]
pub struct Question<V> {
    pub test: Test,
    /// Compares the feature with its sign turned.
    pub negate: bool,
    /// For tests of sets, the set's number.
    pub threshold: V,
    pub second_is_true: bool,
}

impl<V: Value> Question<V> {
    pub fn new(branch: &BranchSpec) -> Question<V> {
        let threshold = V::of(branch.threshold);
        let (mode, missing_is_true) = (branch.mode, branch.missing_is_true);
        let question = |test, threshold, second_is_true| Question {
            test,
            negate: false,
            threshold,
            second_is_true,
        };
        match (mode, missing_is_true) {
            (Mode::Eq, false) => question(Test::Equal, threshold, true),
            (Mode::Eq, true) => question(Test::Unequal, threshold, false),
            // A missing value differs from everything, whatever is said about missing values.
            (Mode::Neq, _) => question(Test::Equal, threshold, false),
            (Mode::Member(set), false) => question(Test::In, V::from_index(set), true),
            (Mode::Member(set), true) => question(Test::NotIn, V::from_index(set), false),
            (_, false) => Question::order(mode, threshold, true),
            // No number compares with NaN, so that only a missing value takes the true branch.
            (_, true) if branch.threshold.is_nan() => question(Test::AtMost, V::INFINITY, false),
            (Mode::Leq, true) => Question::order(Mode::Gt, threshold, false),
            (Mode::Lt, true) => Question::order(Mode::Gte, threshold, false),
            (Mode::Gte, true) => Question::order(Mode::Lt, threshold, false),
            (Mode::Gt, true) => Question::order(Mode::Leq, threshold, false),
        }
    }

    fn order(mode: Mode, threshold: V, second_is_true: bool) -> Question<V> {
        let negate = matches!(mode, Mode::Gte | Mode::Gt);
        let threshold = if negate {
            threshold.negated()
        } else {
            threshold
        };
        let is_strict = matches!(mode, Mode::Lt | Mode::Gt);
        Question {
            test: Test::AtMost,
            negate,
            threshold: if is_strict {
                threshold.below()
            } else {
                threshold
            },
            second_is_true,
        }
    }
}

/// A node as the walk sees it.
pub trait Node: Copy + std::fmt::Debug + Send + Sync + 'static {
    type Value: Value;

    /// A node that looks at `slot` and whose neighbours stand `offset` further on; `None` where that does not fit.
    fn new(
        test: Test,
        threshold: Self::Value,
        slot: u32,
        slot_bits: u32,
        offset: u32,
    ) -> Option<Self>;

    fn threshold(self) -> Self::Value;

    /// The column of a prepared row that it looks at.
    fn slot(self, slot_bits: u32) -> usize;

    /// How far on its neighbours stand; none for a leaf.
    fn offset(self, slot_bits: u32) -> usize;

    /// Whether the second neighbour is taken.
    fn is_second(self, value: Self::Value, sets: &[Vec<Self::Value>]) -> bool;
}

/// 8 bytes: FP32, and only questions about order. Most forests are of this kind.
#[derive(Debug, Clone, Copy)]
pub struct Compact {
    threshold: f32,
    /// The slot in the low bits, the offset in the others.
    link: u32,
}

impl Node for Compact {
    type Value = f32;

    fn new(test: Test, threshold: f32, slot: u32, slot_bits: u32, offset: u32) -> Option<Compact> {
        let link = u64::from(offset) << slot_bits | u64::from(slot);
        Some(Compact {
            threshold,
            link: u32::try_from(link).ok().filter(|_| test == Test::AtMost)?,
        })
    }

    fn threshold(self) -> f32 {
        self.threshold
    }

    #[inline(always)]
    fn slot(self, slot_bits: u32) -> usize {
        (self.link & ((1 << slot_bits) - 1)) as usize
    }

    #[inline(always)]
    fn offset(self, slot_bits: u32) -> usize {
        (self.link >> slot_bits) as usize
    }

    #[inline(always)]
    fn is_second(self, value: f32, _: &[Vec<f32>]) -> bool {
        value <= self.threshold
    }
}

/// 12 or 16 bytes: any question, and more nodes and features than a compact node can name.
#[derive(Debug, Clone, Copy)]
pub struct Wide<V> {
    threshold: V,
    slot: u32,
    /// The offset, above three bits for the test.
    link: u32,
}

const TEST_BITS: u32 = 3;
const TESTS: [Test; 5] = [
    Test::AtMost,
    Test::Equal,
    Test::Unequal,
    Test::In,
    Test::NotIn,
];

impl<V: Value> Node for Wide<V> {
    type Value = V;

    fn new(test: Test, threshold: V, slot: u32, _: u32, offset: u32) -> Option<Wide<V>> {
        Some(Wide {
            threshold,
            slot,
            link: offset.checked_mul(1 << TEST_BITS)? | test as u32,
        })
    }

    fn threshold(self) -> V {
        self.threshold
    }

    #[inline(always)]
    fn slot(self, _: u32) -> usize {
        self.slot as usize
    }

    #[inline(always)]
    fn offset(self, _: u32) -> usize {
        (self.link >> TEST_BITS) as usize
    }

    #[inline(always)]
    fn is_second(self, value: V, sets: &[Vec<V>]) -> bool {
        let threshold = self.threshold;
        let set = || &sets[threshold.index() as usize];
        let is_missing = value.partial_cmp(&value).is_none();
        match TESTS[(self.link & ((1 << TEST_BITS) - 1)) as usize] {
            Test::AtMost => value <= threshold,
            Test::Equal => value == threshold,
            Test::Unequal => value != threshold && !is_missing,
            Test::In => !is_missing && is_member(value, set()),
            Test::NotIn => !is_missing && !is_member(value, set()),
        }
    }
}

/// Whether a number is among these, which are sorted.
fn is_member<V: Value>(value: V, set: &[V]) -> bool {
    let order = |member: &V| member.partial_cmp(&value).unwrap_or(Ordering::Less);
    set.binary_search_by(order).is_ok()
}
