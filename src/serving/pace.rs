//! How long a model takes, learnt from every run: what `Retry-After` and the choice of thread rest on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A request runs where it is if the model was seen to take less than this for its rows.
const SHORT_RUN: Duration = Duration::from_micros(50);
/// So many runs on the workers tell how long a model takes.
const RUNS_TO_TRUST: u64 = 32;

/// How long the model takes, learnt from every run.
#[derive(Default)]
pub struct Pace {
    /// A moving average of the compute time of one row, in nanoseconds.
    row_nanos: AtomicU64,
    runs: AtomicU64,
}

impl Pace {
    /// Takes in one run of the engine.
    pub fn learn(&self, compute: Duration, rows: usize) {
        let nanos = u64::try_from(compute.as_nanos()).unwrap_or(u64::MAX) / rows as u64;
        let before = self.row_nanos.load(Ordering::Relaxed);
        let average = match self.runs.fetch_add(1, Ordering::Relaxed) {
            0 => nanos,
            _ => before - before / 8 + nanos / 8,
        };
        self.row_nanos.store(average, Ordering::Relaxed);
    }

    /// How long so many rows should take; zero before the first run.
    pub fn expected(&self, rows: usize) -> Duration {
        Duration::from_nanos(
            self.row_nanos
                .load(Ordering::Relaxed)
                .saturating_mul(rows as u64),
        )
    }

    /// Whether so many rows are known to take less than a hop to another thread and back.
    pub fn is_short(&self, rows: usize) -> bool {
        self.runs.load(Ordering::Relaxed) >= RUNS_TO_TRUST && self.expected(rows) < SHORT_RUN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_short_only_after_enough_runs_have_shown_it() {
        let pace = Pace::default();
        for _ in 0..RUNS_TO_TRUST {
            assert!(!pace.is_short(1));
            pace.learn(Duration::from_micros(4), 2);
        }
        assert!(pace.is_short(1));
        assert!(!pace.is_short(1000));
        assert_eq!(pace.expected(1000), Duration::from_millis(2));
    }

    #[test]
    fn a_model_that_slows_down_is_not_short_any_more() {
        let pace = Pace::default();
        (0..RUNS_TO_TRUST).for_each(|_| pace.learn(Duration::from_micros(2), 1));
        pace.learn(Duration::from_millis(5), 1);
        assert!(!pace.is_short(1));
    }
}
