//! Loads what is wanted of one model, version after version, beside what serves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Reconciler;
use super::load::{Effort, Load, Outcome};
use super::tries::Tries;
use crate::error::{Error, Result, guarded};
use crate::repository::{Version, store};
use crate::serving::board::Leaving;
use crate::serving::deployment::Deployment;
use crate::serving::loading::Wanted;
use crate::serving::registry::ModelEntry;

/// What a client is told to wait for files that are being written.
const WRITING_RETRY: Duration = Duration::from_secs(1);

/// What has come of a version that is wanted.
enum Step {
    /// It serves, and nothing was done.
    Stays,
    Loaded(Arc<Deployment>),
    /// What may serve in its place is the one that did before.
    Failed(Arc<Error>),
}

impl Reconciler {
    /// Brings what is served of one model in line with its files, and says what came of it. What serves already goes on
    /// until the new one has proven itself, and stays where that fails.
    pub(super) fn bring(&self, load: &Load, tries: &mut Tries) -> Outcome {
        for (version, error) in load.missing() {
            let (model, reason) = (&load.name, error.chain());
            tracing::error!(model, version, reason, "model cannot be loaded");
        }
        let leaving = self.board.change(&load.name, |entry| {
            load.begin(entry, |version| self.is_to_be_loaded(load, version, tries));
        });
        self.drain_replaced(&load.name, leaving);
        let mut outcome = self.load_versions(load, tries);
        // What was not tried now would be tried afresh. What is missing is not tried at all, so that a try of it from
        // when it was there would stay due for ever.
        tries.keep(|version| outcome.failed.iter().any(|(failed, _)| *failed == version));
        outcome.failed.extend(load.missing());
        let leaving = self
            .board
            .change(&load.name, |entry| load.end(entry, &outcome));
        self.drain_replaced(&load.name, leaving);
        outcome
    }

    /// Tries a model's versions until as many serve as are wanted, and then those with a label.
    fn load_versions(&self, load: &Load, tries: &mut Tries) -> Outcome {
        let mut outcome = Outcome::default();
        let mut candidates = load.plan.candidates.iter().copied().peekable();
        while let Some(version) = candidates.next() {
            let step = self.step(load, version, &outcome, tries);
            if self.keep_count(load, version, &step, &mut outcome.failed) {
                outcome.served.push(version);
            }
            let next = candidates.peek().copied();
            let next = next.filter(|_| outcome.served.len() < load.plan.wanted);
            let next = next.filter(|next| self.is_to_be_loaded(load, *next, tries));
            let is_over = outcome.served.len() >= load.plan.wanted;
            // In one step, so that the server is never ready between two versions.
            let replaced = self.board.change(&load.name, |entry| {
                step.show(entry, version);
                if let Some(next) = next {
                    entry.begin(next);
                }
            });
            self.drain_replaced(&load.name, replaced);
            if is_over {
                break;
            }
        }
        for version in load.plan.labelled.iter().copied() {
            let is_known = outcome.failed.iter().any(|(failed, _)| *failed == version);
            if outcome.served.contains(&version) || is_known {
                continue;
            }
            let step = self.step(load, version, &outcome, tries);
            if self.keep_count(load, version, &step, &mut outcome.failed) {
                outcome.labelled.push(version);
            }
            let replaced = self.board.change(&load.name, |entry| {
                entry.only_labelled.insert(version);
                step.show(entry, version);
            });
            self.drain_replaced(&load.name, replaced);
        }
        outcome
    }

    /// Whether a version serves after this step; a failure is added to those of the others.
    fn keep_count(
        &self,
        load: &Load,
        version: Version,
        step: &Step,
        failed: &mut Vec<(Version, Arc<Error>)>,
    ) -> bool {
        match step {
            Step::Stays | Step::Loaded(_) => true,
            Step::Failed(error) => {
                failed.push((version, error.clone()));
                self.board.serving(&load.name, version).is_some()
            }
        }
    }

    /// Whether there is a reason to load a version.
    fn is_to_be_loaded(&self, load: &Load, version: Version, tries: &Tries) -> bool {
        let origin = load.files.origin(version);
        match load.effort {
            Effort::Everything => true,
            Effort::Changes => {
                let serving = self.board.serving(&load.name, version);
                let is_current = serving.is_some_and(|serving| serving.facts.origin == origin);
                !is_current && tries.failure(version, &origin, Instant::now()).is_none()
            }
        }
    }

    fn step(&self, load: &Load, version: Version, so_far: &Outcome, tries: &mut Tries) -> Step {
        let serving = self.board.serving(&load.name, version);
        let origin = load.files.origin(version);
        let is_left = match load.effort {
            // Where a newer version failed, what serves is not touched.
            Effort::Everything => serving.is_some() && !so_far.failed.is_empty(),
            Effort::Changes => serving
                .as_ref()
                .is_some_and(|serving| serving.facts.origin == origin),
        };
        if is_left {
            return Step::Stays;
        }
        if load.effort == Effort::Changes
            && let Some(error) = tries.failure(version, &origin, Instant::now())
        {
            return Step::Failed(error);
        }
        match self.load_version(load, version, serving.as_ref()) {
            Ok(deployment) => {
                tries.succeeded(version);
                Step::Loaded(deployment)
            }
            Err(error) => {
                tries.failed(version, origin, (error.clone(), Instant::now()));
                Step::Failed(error)
            }
        }
    }

    fn load_version(
        &self,
        load: &Load,
        version: Version,
        serving: Option<&Arc<Deployment>>,
    ) -> Result<Arc<Deployment>, Arc<Error>> {
        let statistics = serving.map(|serving| serving.facts.statistics.clone());
        let wanted = Wanted {
            model: load.name.clone(),
            version,
            files: load.files.clone(),
            statistics: statistics.unwrap_or_default(),
        };
        let loaded = guarded("while loading", || self.machinery.load(wanted));
        match loaded {
            // What was proven must be what serves.
            Ok(_) if !store::is_as_found(&load.files, version) => {
                let changed = "its files changed while it was loaded";
                let (model, reason) = (&load.name, changed);
                tracing::warn!(model, version, reason, "model is not served yet");
                let metrics = &self.machinery.metrics;
                metrics.load_failed(model, &version.to_string());
                Err(Error::unavailable(changed).with_retry_after(WRITING_RETRY))
            }
            loaded => loaded.map(Arc::new),
        }
        .map_err(Arc::new)
    }

    fn drain_replaced(&self, name: &str, replaced: Leaving) {
        if !replaced.is_empty() {
            self.board.drain(name, replaced, None, || ());
        }
    }
}

impl Step {
    fn show(&self, entry: &mut ModelEntry, version: Version) {
        match self {
            Step::Stays => drop(entry.refused.remove(&version)),
            Step::Loaded(deployment) => entry.serve(version, deployment.clone()),
            Step::Failed(error) => entry.refuse(version, error.clone()),
        }
    }
}
