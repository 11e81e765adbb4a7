//! One model's load: what is to be served of it, and what is shown before and after.

use std::sync::Arc;

use crate::error::Error;
use crate::repository::{ModelFiles, Version, policy};
use crate::serving::registry::{ModelEntry, VersionState};

/// One model to load.
pub struct Load {
    pub name: String,
    pub files: ModelFiles,
    pub plan: policy::Plan,
}

/// What came of loading a model's versions.
#[derive(Default)]
pub struct Outcome {
    pub served: Vec<Version>,
    pub failed: Vec<(Version, Arc<Error>)>,
}

impl Load {
    /// Versions that were asked for by number and are not there.
    pub fn missing(&self) -> impl Iterator<Item = (Version, Arc<Error>)> {
        let found = self.files.versions.keys().map(ToString::to_string);
        let found: Vec<_> = found.collect();
        let reason = format!(
            "it is asked for (by MODEL_VERSION, models.version or model.toml) and the repository has {}",
            found.join(", ")
        );
        let missing = self.plan.missing.iter();
        missing.map(move |version| (*version, Arc::new(Error::unavailable(reason.clone()))))
    }

    /// What is shown before anything is loaded: all that is wanted as being loaded, so that readiness never comes too
    /// early.
    pub fn begin(&self, entry: &mut ModelEntry) {
        for (version, error) in self.missing() {
            let (model, reason) = (&self.name, error.chain());
            tracing::error!(model, version, reason, "model cannot be loaded");
            entry.refuse(version, error);
        }
        for version in self.plan.candidates.iter().take(self.plan.wanted) {
            entry.begin(*version);
        }
    }

    /// What is shown after the last version: without what is not wanted any more, unless something went wrong.
    pub fn end(&self, entry: &mut ModelEntry, outcome: &Outcome) {
        let is_good = outcome.failed.is_empty();
        if is_good {
            entry.default_version = self.files.manifest.default_version;
        }
        let is_tried = |version: &Version| {
            let mut failed = outcome.failed.iter();
            outcome.served.contains(version) || failed.any(|(failed, _)| failed == version)
        };
        entry.versions.retain(|version, state| match state {
            VersionState::Draining(_) => true,
            _ if is_tried(version) => true,
            VersionState::Ready(_) => {
                if is_good {
                    state.leave();
                }
                true
            }
            _ => false,
        });
        let versions = &entry.versions;
        entry
            .refused
            .retain(|version, _| versions.contains_key(version));
    }
}
