//! One model's load: what is to be served of it, and what is shown before and after.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Error;
use crate::repository::manifest::{VersionName, VersionPolicy};
use crate::repository::{ModelFiles, Version, policy};
use crate::serving::registry::{ModelEntry, VersionState};

/// One model to load.
pub struct Load {
    pub name: String,
    pub files: ModelFiles,
    pub plan: policy::Plan,
    pub effort: Effort,
}

/// What is loaded of what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Everything, changed or not, as whoever gave the order expects.
    Everything,
    /// What does not serve as it is in the repository, unless it has failed as it is there.
    Changes,
}

/// What came of loading a model's versions.
#[derive(Default)]
pub struct Outcome {
    /// What the policy picked and serves.
    pub served: Vec<Version>,
    /// What serves for a label alone.
    pub labelled: Vec<Version>,
    pub failed: Vec<(Version, Arc<Error>)>,
}

impl Outcome {
    /// Whether a version serves, for whichever reason.
    pub fn serves(&self, version: Version) -> bool {
        self.served.contains(&version) || self.labelled.contains(&version)
    }
}

impl Load {
    /// The load of a model with these files, where `pin` takes the place of its own policy.
    pub fn new(name: &str, mut files: ModelFiles, pin: Option<Version>, effort: Effort) -> Load {
        let manifest = &mut files.manifest;
        if let Some(pin) = pin {
            manifest.versions = VersionPolicy::Pinned(vec![pin]);
            manifest.default_version = Some(VersionName::Number(pin));
        }
        Load {
            name: name.to_owned(),
            plan: policy::plan(manifest, files.versions.keys().copied()),
            files,
            effort,
        }
    }

    /// Versions that were asked for by number or by a label and are not there.
    pub fn missing(&self) -> BTreeMap<Version, Arc<Error>> {
        let found = self.files.versions.keys().map(ToString::to_string);
        let found: Vec<_> = found.collect();
        let found = found.join(", ");
        let told = |version: Version, by: String| {
            let reason = format!("it is asked for (by {by}) and the repository has {found}");
            (version, Arc::new(Error::unavailable(reason)))
        };
        let labels = self.plan.dangling.iter();
        let labelled = labels
            .map(|(label, version)| told(*version, format!("the label '{label}' in model.toml")));
        let pinned = self.plan.missing.iter();
        let pinned = pinned.map(|version| {
            let by = "MODEL_VERSION, models.version or model.toml";
            told(*version, by.to_owned())
        });
        labelled.chain(pinned).collect()
    }

    /// What is shown before anything is loaded: all that is wanted as being loaded, so that readiness never comes too
    /// early.
    pub fn begin(&self, entry: &mut ModelEntry, is_to_be_loaded: impl Fn(Version) -> bool) {
        entry.is_removed = false;
        if !entry.is_served() {
            self.choose(entry, &Outcome::default());
        }
        for (version, error) in self.missing() {
            entry.refuse(version, error);
        }
        let wanted = self.plan.candidates.iter().take(self.plan.wanted);
        for version in wanted.chain(&self.plan.labelled) {
            if is_to_be_loaded(*version) {
                entry.begin(*version);
            }
        }
    }

    /// Which version a request means that names none, or a label.
    fn choose(&self, entry: &mut ModelEntry, outcome: &Outcome) {
        let manifest = &self.files.manifest;
        entry.policy = manifest.versions.clone();
        entry.labels = manifest.version_labels.clone();
        entry.default_version = manifest.default_number();
        let candidates = &self.plan.candidates;
        let labelled = self.plan.labelled.iter().copied();
        entry.only_labelled = match outcome.served.is_empty() {
            true => labelled.filter(|one| !candidates.contains(one)).collect(),
            false => labelled
                .filter(|one| !outcome.served.contains(one))
                .collect(),
        };
    }

    /// What is shown after the last version: requests mean what is wanted now, as far as it serves, and what nobody
    /// wants any more leaves.
    pub fn end(&self, entry: &mut ModelEntry, outcome: &Outcome) {
        let before = entry.clone();
        entry.problem = None;
        self.choose(entry, outcome);
        let is_there = |version: Version| self.files.versions.contains_key(&version);
        // A version that fails does not take a label away from the one that has it.
        for (label, version) in &mut entry.labels {
            let old = before.labels.get(label).copied();
            let stays = old.filter(|old| is_there(*old) && before.serves(*old));
            if let Some(old) = stays.filter(|_| is_there(*version) && !outcome.serves(*version)) {
                *version = old;
            }
        }
        if let Some(default) = self.files.manifest.default_number()
            && !entry.serves(default)
            && before.is_served()
        {
            entry.default_version = before.default_version;
            entry.only_labelled = before.only_labelled;
        }
        let ModelEntry {
            versions,
            labels,
            default_version,
            refused,
            ..
        } = entry;
        let is_needed = |version: Version| {
            let is_labelled = labels.values().any(|labelled| *labelled == version);
            outcome.serves(version) || is_labelled || *default_version == Some(version)
        };
        // Where nothing that is wanted serves, what serves stays.
        let is_replaced = !outcome.served.is_empty();
        versions.retain(|version, state| match state {
            VersionState::Draining(_) => true,
            VersionState::Ready(_) => {
                if is_replaced && !is_needed(*version) {
                    state.leave();
                } else if !is_there(*version) {
                    let gone = "it is not there any more, and nothing else can take its place";
                    refused.insert(*version, Arc::new(Error::unavailable(gone)));
                }
                true
            }
            _ => outcome.failed.iter().any(|(failed, _)| failed == version),
        });
        refused.retain(|version, _| versions.contains_key(version));
    }
}
