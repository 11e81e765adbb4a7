//! Whether a queue stands: whether requests have waited for long without a pause.
//!
//! A queue takes up what comes at once, and is empty again soon after. One that stands takes up nothing: whoever joins it
//! waits, and no more is done than with a short one. This is the observation of CoDel (RFC 8289); as the server cannot
//! slow its clients, it lets fewer in.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// While nothing waits.
const EMPTY: u64 = u64::MAX;

/// Since when something has waited.
#[derive(Debug)]
pub struct Standing {
    start: Instant,
    /// In nanoseconds after the start.
    since: AtomicU64,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            since: AtomicU64::new(EMPTY),
        }
    }
}

impl Standing {
    /// Takes in whether something waits, after every change and in order.
    pub fn saw(&self, waits: bool, now: Instant) {
        match waits {
            false => self.since.store(EMPTY, Ordering::Relaxed),
            true if self.is_empty() => self.since.store(self.after_start(now), Ordering::Relaxed),
            true => {}
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.since.load(Ordering::Relaxed) == EMPTY
    }

    /// How long something has waited without a pause.
    pub fn time(&self, now: Instant) -> Duration {
        // While it is empty, that lies ahead.
        let since = self.since.load(Ordering::Relaxed);
        Duration::from_nanos(self.after_start(now).saturating_sub(since))
    }

    fn after_start(&self, now: Instant) -> u64 {
        let nanos = now.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos).map_or(EMPTY - 1, |nanos| nanos.min(EMPTY - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_from_the_first_that_waits_until_none_does() {
        let standing = Standing::default();
        let at = |millis| standing.start + Duration::from_millis(millis);
        assert_eq!(standing.time(at(5)), Duration::ZERO);
        assert!(standing.is_empty());
        standing.saw(true, at(10));
        standing.saw(true, at(20));
        assert_eq!(standing.time(at(30)), Duration::from_millis(20));
        assert!(!standing.is_empty());
        standing.saw(false, at(40));
        assert_eq!(standing.time(at(50)), Duration::ZERO);
        standing.saw(true, at(60));
        assert_eq!(standing.time(at(61)), Duration::from_millis(1));
    }
}
