//! Tells the log when a model's batches have become larger or smaller, every now and then.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::serving::deployment::{Deployment, Facts};

/// A model's batches are told of again after this time at the soonest.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// What the log has said of each model's version.
#[derive(Default)]
pub struct Telling(HashMap<(String, String), Told>);

struct Told {
    facts: Weak<Facts>,
    rows: usize,
    at: Instant,
}

impl Telling {
    /// Logs how large the batches of a version are, if that is new.
    pub fn look_at(&mut self, deployment: &Deployment) {
        let facts = &deployment.facts;
        let batching = deployment.batching();
        let rows = batching.decision.rows;
        let key = (facts.model.clone(), facts.version.clone());
        let before = self.0.get(&key);
        let before = before.filter(|told| told.facts.as_ptr() == Arc::as_ptr(facts));
        match before {
            Some(told) if told.rows == rows || told.at.elapsed() < TOLD_AGAIN => return,
            Some(_) => {
                let (model, version) = (&facts.model, &facts.version);
                let why = batching.reason();
                tracing::info!(model, version, rows, why, "batches have another size");
            }
            // Loading has told it.
            None => {}
        }
        let told = Told {
            facts: Arc::downgrade(facts),
            rows,
            at: Instant::now(),
        };
        self.0.insert(key, told);
    }

    /// Versions that are no longer served are forgotten.
    pub fn forget_what_is_gone(&mut self) {
        self.0.retain(|_, told| told.facts.strong_count() > 0);
    }
}
