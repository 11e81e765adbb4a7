//! How many times as long requests wait as what is ahead of them should take.
//!
//! Costs are medians of what runs took; what holds runs up now and then, other models and other programs that share the
//! machine come on top. A high quantile of the ratio is followed step by step, so that most requests which were let in for
//! their latency target also keep it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One is so many of these.
const ONE: u64 = 1 << 20;
/// A machine that is so many times as slow as was measured is told apart from slower ones no more.
const MOST: u64 = 8 * ONE;
/// So many of a hundred are to wait no longer than expected.
const QUANTILE: u64 = 99;
const OF: u64 = 100;
/// A step is at most such a part: a wait that was too long weighs as much as ninety-nine that were not.
const STEP: u64 = 8;

/// The ratio, at least one.
#[derive(Debug)]
pub struct Stretch(AtomicU64);

impl Default for Stretch {
    fn default() -> Self {
        Self(AtomicU64::new(ONE))
    }
}

impl Stretch {
    /// How long a wait may well become that should take so long.
    pub fn of(&self, expected: Duration) -> Duration {
        expected.mul_f64(self.0.load(Ordering::Relaxed) as f64 / ONE as f64)
    }

    /// Takes in how long a wait was.
    pub fn learn(&self, expected: Duration, waited: Duration) {
        let before = self.0.load(Ordering::Relaxed);
        let step = before / STEP / OF;
        let after = match waited > self.of(expected) {
            true => before + step * QUANTILE,
            false => before - step * (OF - QUANTILE),
        };
        // Of two at once one is lost, which changes nothing for long.
        self.0.store(after.clamp(ONE, MOST), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Duration = Duration::from_millis(10);

    fn after(waits: impl Iterator<Item = u64>) -> Duration {
        let stretch = Stretch::default();
        waits.for_each(|millis| stretch.learn(EXPECTED, Duration::from_millis(millis)));
        stretch.of(EXPECTED)
    }

    #[test]
    fn what_costs_say_is_believed_until_waits_are_longer() {
        assert_eq!(after(0..0), EXPECTED);
        assert_eq!(after((0..1000).map(|at| at % 10)), EXPECTED);
    }

    #[test]
    fn all_but_few_waits_are_no_longer_than_expected() {
        // Every twentieth wait takes three times as long as the others.
        let stretched = after((0..10_000).map(|at| if at % 20 == 0 { 30 } else { 10 }));
        assert!((27..=34).contains(&stretched.as_millis()), "{stretched:?}");
        let stretched = after((0..10_000).map(|at| if at % 500 == 0 { 30 } else { 10 }));
        assert!(stretched < EXPECTED * 2, "{stretched:?}");
    }

    #[test]
    fn it_has_an_end_and_comes_back() {
        assert_eq!(after((0..1000).map(|_| 10_000)), EXPECTED * 8);
        let slow_once = (0..100).map(|_| 10_000).chain((0..2000).map(|_| 10));
        assert_eq!(after(slow_once), EXPECTED);
    }
}
