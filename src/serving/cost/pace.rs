//! How long a model takes, learnt from every run without a lock: what the choice of thread rests on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Size;

/// A request runs where it is if the model was seen to take less than this for its rows.
pub const SHORT_RUN: Duration = Duration::from_micros(50);
/// So many runs on the workers tell how long a model takes.
const RUNS_TO_TRUST: u64 = 32;

/// How long the model takes, learnt from every run.
#[derive(Default)]
pub struct Pace {
    runs: AtomicU64,
    /// A moving average of the compute time of one row, in nanoseconds.
    row_nanos: AtomicU64,
    /// The same of one byte of input, in picoseconds: a row may be of any size where its other dimensions vary.
    byte_picos: AtomicU64,
}

impl Pace {
    /// Takes in one run of the engine; how many there were before.
    pub fn learn(&self, compute: Duration, size: Size) -> u64 {
        let nanos = u64::try_from(compute.as_nanos()).unwrap_or(u64::MAX);
        let before = self.runs.fetch_add(1, Ordering::Relaxed);
        let first = before == 0;
        average(&self.row_nanos, first, nanos / size.rows.max(1) as u64);
        if size.bytes > 0 {
            let picos = nanos.saturating_mul(1000) / size.bytes as u64;
            average(&self.byte_picos, first, picos);
        }
        before
    }

    /// How long so many rows should take; zero before the first run.
    pub fn expected(&self, rows: usize) -> Duration {
        Duration::from_nanos(
            self.row_nanos
                .load(Ordering::Relaxed)
                .saturating_mul(rows as u64),
        )
    }

    /// Whether such a request is known to take less than a hop to another thread and back.
    pub fn is_short(&self, size: Size) -> bool {
        let picos = self
            .byte_picos
            .load(Ordering::Relaxed)
            .saturating_mul(size.bytes as u64);
        let by_bytes = Duration::from_nanos(picos / 1000);
        self.runs.load(Ordering::Relaxed) >= RUNS_TO_TRUST
            && self.expected(size.rows).max(by_bytes) < SHORT_RUN
    }
}

/// Moves an average an eighth of the way towards a new value.
fn average(of: &AtomicU64, first: bool, value: u64) {
    let before = of.load(Ordering::Relaxed);
    let after = if first {
        value
    } else {
        before - before / 8 + value / 8
    };
    of.store(after, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: Size = Size { rows: 1, bytes: 16 };

    fn times(rows: usize) -> Size {
        Size {
            rows,
            bytes: rows * ROW.bytes,
        }
    }

    #[test]
    fn a_model_is_short_only_after_enough_runs_have_shown_it() {
        let pace = Pace::default();
        for _ in 0..RUNS_TO_TRUST {
            assert!(!pace.is_short(ROW));
            pace.learn(Duration::from_micros(4), times(2));
        }
        assert!(pace.is_short(ROW));
        assert!(!pace.is_short(times(1000)));
        assert_eq!(pace.expected(1000), Duration::from_millis(2));
    }

    #[test]
    fn one_long_row_is_not_taken_for_a_short_one() {
        let pace = Pace::default();
        (0..RUNS_TO_TRUST).for_each(|_| _ = pace.learn(Duration::from_micros(2), ROW));
        assert!(!pace.is_short(Size {
            rows: 1,
            bytes: 16_000
        }));
    }

    #[test]
    fn a_model_that_slows_down_is_not_short_any_more() {
        let pace = Pace::default();
        (0..RUNS_TO_TRUST).for_each(|_| _ = pace.learn(Duration::from_micros(2), ROW));
        pace.learn(Duration::from_millis(5), ROW);
        assert!(!pace.is_short(ROW));
    }
}
