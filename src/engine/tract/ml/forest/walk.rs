//! The walk to the leaves, several at a time.
//!
//! One walk is a chain of loads, each of which waits for the one before it, and a branch predictor guesses the way
//! wrong every other time. So a step is free of branches (the comparison is added to the index), and [`LANES`] walks
//! that have nothing to do with each other take their steps in turn.

use super::node::Node;

/// How many walks go on at once.
pub const LANES: usize = 8;

/// After so many steps it is looked whether all have arrived.
const STRIDE: u32 = 4;

/// The nodes of a forest, and what is needed to read them.
pub struct Ground<'a, N: Node> {
    pub nodes: &'a [N],
    pub slot_bits: u32,
    pub sets: &'a [Vec<N::Value>],
}

impl<N: Node> Ground<'_, N> {
    /// The leaves that these walks of at most `depth` steps lead to; `value` is what a lane sees in a slot.
    #[inline(always)]
    pub fn walk(
        &self,
        mut at: [usize; LANES],
        depth: u32,
        value: impl Fn(usize, usize) -> N::Value,
    ) -> [usize; LANES] {
        let mut left = depth;
        while left >= STRIDE {
            let before = at;
            for _ in 0..STRIDE {
                self.step(&mut at, &value);
            }
            left -= STRIDE;
            if at == before {
                return at;
            }
        }
        for _ in 0..left {
            self.step(&mut at, &value);
        }
        at
    }

    #[inline(always)]
    fn step(&self, at: &mut [usize; LANES], value: &impl Fn(usize, usize) -> N::Value) {
        for (lane, at) in at.iter_mut().enumerate() {
            let node = self.nodes[*at];
            let value = value(node.slot(self.slot_bits), lane);
            *at += node.offset(self.slot_bits) + usize::from(node.is_second(value, self.sets));
        }
    }
}
