//! How the store and its mirror are, for `/health` and whoever else asks while the mirror works.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::config::remote_url::RemoteUrl;

/// Shared with the mirror, which changes it.
#[derive(Debug, Clone)]
pub struct Status {
    url: Arc<str>,
    state: Arc<Mutex<State>>,
}

/// One moment's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub reach: Reach,
    /// When a listing was last read whole and everything that it names was there.
    pub last_success: Option<SystemTime>,
    /// What is not mirrored as the store has it, by unit, and why.
    pub incomplete: BTreeMap<String, String>,
}

/// Whether the store answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Reach {
    /// It has not been asked yet.
    #[default]
    Unknown,
    Up,
    /// Why it cannot be listed.
    Away(String),
}

impl Status {
    pub fn new(url: &RemoteUrl) -> Status {
        Status {
            url: url.to_string().into(),
            state: Arc::default(),
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn state(&self) -> State {
        self.lock().clone()
    }

    /// Notes how a look ended, and says in the log what that changes.
    pub(super) fn looked(
        &self,
        now: SystemTime,
        outcome: Result<BTreeMap<String, String>, String>,
    ) {
        let before = self.state();
        let mut after = before.clone();
        match outcome {
            Ok(incomplete) => {
                after.reach = Reach::Up;
                if incomplete.is_empty() {
                    after.last_success = Some(now);
                }
                after.incomplete = incomplete;
            }
            Err(reason) => after.reach = Reach::Away(reason),
        }
        self.tell(&before, &after);
        *self.lock() = after;
    }

    fn tell(&self, before: &State, after: &State) {
        let url = self.url();
        match (&before.reach, &after.reach) {
            (Reach::Away(_), Reach::Away(_)) | (Reach::Up, Reach::Up) => {}
            (_, Reach::Away(reason)) => {
                tracing::warn!(
                    url,
                    reason,
                    "the remote repository cannot be read; what is mirrored is served"
                );
            }
            (_, Reach::Up) => tracing::info!(url, "the remote repository answers"),
            (_, Reach::Unknown) => {}
        }
        for (unit, reason) in &after.incomplete {
            if before.incomplete.get(unit) != Some(reason) {
                tracing::warn!(unit, reason, "not mirrored; it stays as it was");
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
