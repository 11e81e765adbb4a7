//! What the mirror of a remote repository counts.

use std::time::{Duration, SystemTime};

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge};

/// How a look at a remote repository ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncOutcome {
    Unchanged,
    Changed,
    /// Something could not be fetched and stays as it was.
    Incomplete,
    /// The store could not be listed.
    Failed,
}

impl SyncOutcome {
    const ALL: [SyncOutcome; 4] = [
        SyncOutcome::Unchanged,
        SyncOutcome::Changed,
        SyncOutcome::Incomplete,
        SyncOutcome::Failed,
    ];

    fn label(self) -> &'static str {
        match self {
            SyncOutcome::Unchanged => "unchanged",
            SyncOutcome::Changed => "changed",
            SyncOutcome::Incomplete => "incomplete",
            SyncOutcome::Failed => "failed",
        }
    }
}

/// The series of one mirror. Cloning shares them.
#[derive(Debug, Clone)]
pub struct RepositoryMetrics {
    pub(super) up: IntGauge,
    pub(super) syncs: IntCounterVec,
    pub(super) last_success: Gauge,
    pub(super) fetched_bytes: IntCounter,
}

impl RepositoryMetrics {
    /// Shows every outcome from the start, so that the first one is an increase.
    pub(super) fn show_outcomes(&self) {
        for outcome in SyncOutcome::ALL {
            self.syncs.with_label_values(&[outcome.label()]).inc_by(0);
        }
    }

    /// Counts a look.
    pub fn synced(&self, outcome: SyncOutcome, now: SystemTime) {
        self.up.set(i64::from(outcome != SyncOutcome::Failed));
        self.syncs.with_label_values(&[outcome.label()]).inc();
        if matches!(outcome, SyncOutcome::Unchanged | SyncOutcome::Changed) {
            let since_1970 = now.duration_since(SystemTime::UNIX_EPOCH);
            let since_1970 = since_1970.unwrap_or(Duration::ZERO);
            self.last_success.set(since_1970.as_secs_f64());
        }
    }

    /// Counts what was fetched and found right.
    pub fn fetched(&self, bytes: u64) {
        self.fetched_bytes.inc_by(bytes);
    }
}
