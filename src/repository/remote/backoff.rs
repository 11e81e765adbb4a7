//! When a store is looked at again: after the interval while it answers, later and later while it does not.

use std::time::Duration;

/// After the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// However long a store is away, it is asked this often.
const LONGEST: Duration = Duration::from_secs(60);
/// Longer than this no store is believed that asks to be left alone.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// Counts failures in a row.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// How long to wait where looks are `interval` apart and the store asked for `asked`. `chance`, from 0 to 1,
    /// spreads servers that were started or cut off together.
    pub fn delay(&self, interval: Duration, asked: Option<Duration>, chance: f64) -> Duration {
        let spread =
            |delay: Duration, part: f64| delay.mul_f64(1.0 - part * chance.clamp(0.0, 1.0));
        if self.failures == 0 {
            return spread(interval, 0.1);
        }
        let doubled = FIRST.saturating_mul(1 << (self.failures - 1).min(16));
        let delay = spread(doubled.min(LONGEST.max(interval)), 0.5);
        delay.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn a_store_that_is_away_is_asked_less_and_less() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.delay(INTERVAL, None, 0.0), INTERVAL);
        let mut delays = Vec::new();
        for _ in 0..9 {
            backoff.failed();
            delays.push(backoff.delay(INTERVAL, None, 0.0).as_secs());
        }
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff.delay(INTERVAL, None, 1.0).as_secs(), 30);
        backoff.succeeded();
        assert_eq!(backoff.delay(INTERVAL, None, 0.0), INTERVAL);
    }

    #[test]
    fn a_store_that_asks_for_rest_gets_it() {
        let mut backoff = Backoff::default();
        backoff.failed();
        let asked = Some(Duration::from_secs(120));
        assert_eq!(backoff.delay(INTERVAL, asked, 1.0).as_secs(), 120);
        let asked = Some(Duration::from_secs(1_000_000));
        assert_eq!(backoff.delay(INTERVAL, asked, 1.0), LONGEST_ASKED);
    }

    proptest! {
        #[test]
        fn every_delay_is_bounded(failures in 0u32..100, interval in 1u64..100_000, chance in -1.0f64..2.0) {
            let backoff = Backoff { failures };
            let interval = Duration::from_millis(interval);
            let delay = backoff.delay(interval, None, chance);
            prop_assert!(delay <= interval.max(LONGEST));
            prop_assert!(delay >= FIRST.min(interval) / 2);
        }
    }
}
