//! One model as requests see it: its versions and their states, and which of them a request means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::repository::Version;
use crate::repository::manifest::{VersionName, VersionPolicy};
use crate::serving::deployment::Deployment;

/// What a client is told to wait for a model that is being loaded.
const LOADING_RETRY: Duration = Duration::from_secs(1);

/// One model: its versions that are served, being loaded, or failed.
#[derive(Clone, Default)]
pub struct ModelEntry {
    pub versions: BTreeMap<Version, VersionState>,
    /// The version that a request means which names none; else the newest that serves.
    pub default_version: Option<Version>,
    /// Names for versions, which work wherever a version's number does.
    pub labels: BTreeMap<String, Version>,
    /// What is served for a label alone, which a request that names no version never means by itself.
    pub only_labelled: BTreeSet<Version>,
    /// Which versions its owner wants served.
    pub policy: VersionPolicy,
    /// What is wrong with the model as a whole.
    pub problem: Option<String>,
    /// Why what lies in the repository now did not take the place of a version, which goes on as it was.
    pub refused: BTreeMap<Version, Arc<Error>>,
    /// Whether readiness may depend on it: it was there at the start, and nobody has unloaded it.
    pub is_required: bool,
    /// Whether it has left the repository, and only finishes what it has.
    pub is_removed: bool,
}

/// The state of one version.
#[derive(Clone)]
pub enum VersionState {
    Loading,
    Ready(Arc<Deployment>),
    Failed(Arc<Error>),
    /// It takes no more requests; those that it has are finished. Which one it is tells it apart from another that
    /// drains at the same time, as one does which a reload has replaced.
    Draining(Weak<Deployment>),
    /// Nobody wants it now.
    Unloaded,
}

impl VersionState {
    /// The state's name in health, metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            VersionState::Loading => "loading",
            VersionState::Ready(_) => "ready",
            VersionState::Failed(_) => "failed",
            VersionState::Draining(_) => "draining",
            VersionState::Unloaded => "unloaded",
        }
    }

    /// What serves, if anything does.
    pub fn deployment(&self) -> Option<&Arc<Deployment>> {
        match self {
            VersionState::Ready(deployment) => Some(deployment),
            VersionState::Loading
            | VersionState::Failed(_)
            | VersionState::Draining(_)
            | VersionState::Unloaded => None,
        }
    }

    /// Why it does not serve as it should, if it was tried.
    fn failure(&self) -> Option<&Error> {
        match self {
            VersionState::Failed(error) => Some(error),
            VersionState::Loading
            | VersionState::Ready(_)
            | VersionState::Draining(_)
            | VersionState::Unloaded => None,
        }
    }

    /// Whether it is this one that finishes what it has.
    pub fn is_draining(&self, deployment: &Weak<Deployment>) -> bool {
        matches!(self, VersionState::Draining(draining) if Weak::ptr_eq(draining, deployment))
    }

    /// Nobody wants it now; what it has is finished.
    pub fn leave(&mut self) {
        *self = match self {
            VersionState::Ready(deployment) => VersionState::Draining(Arc::downgrade(deployment)),
            VersionState::Draining(deployment) => VersionState::Draining(deployment.clone()),
            VersionState::Loading | VersionState::Failed(_) | VersionState::Unloaded => {
                VersionState::Unloaded
            }
        };
    }

    fn is_unloaded(&self) -> bool {
        matches!(self, VersionState::Draining(_) | VersionState::Unloaded)
    }
}

impl ModelEntry {
    /// A version is about to be loaded, unless it serves.
    pub fn begin(&mut self, version: Version) {
        let state = self
            .versions
            .entry(version)
            .or_insert(VersionState::Loading);
        if state.deployment().is_none() {
            *state = VersionState::Loading;
        }
    }

    /// A version has proven itself.
    pub fn serve(&mut self, version: Version, deployment: Arc<Deployment>) {
        self.problem = None;
        self.refused.remove(&version);
        self.versions
            .insert(version, VersionState::Ready(deployment));
    }

    /// What the repository has of a version cannot be served. If the version serves, it goes on as it was.
    pub fn refuse(&mut self, version: Version, error: Arc<Error>) {
        match self.versions.get(&version) {
            Some(VersionState::Ready(_)) => self.refused.insert(version, error).is_some(),
            _ => {
                let failed = VersionState::Failed(error);
                self.versions.insert(version, failed).is_some()
            }
        };
    }

    /// Nobody wants the model now.
    pub fn unload(&mut self) {
        self.is_required = false;
        self.refused.clear();
        self.versions.values_mut().for_each(VersionState::leave);
    }

    /// The versions that take traffic, newest first.
    pub fn served(&self) -> impl Iterator<Item = (Version, &Arc<Deployment>)> {
        self.versions
            .iter()
            .rev()
            .filter_map(|(version, state)| Some((*version, state.deployment()?)))
    }

    /// Whether this version takes traffic.
    pub fn serves(&self, version: Version) -> bool {
        let state = self.versions.get(&version);
        state.is_some_and(|state| state.deployment().is_some())
    }

    /// Whether a request that names no version is answered.
    pub fn is_served(&self) -> bool {
        self.default_deployment().is_some()
    }

    /// The version that a request means which names none.
    pub fn default_deployment(&self) -> Option<&Arc<Deployment>> {
        self.served()
            .find(|(version, _)| self.may_be_default(*version))
            .map(|(_, deployment)| deployment)
    }

    /// Whether a request that names no version may mean this one.
    fn may_be_default(&self, version: Version) -> bool {
        match self.default_version {
            Some(default) => default == version,
            None => !self.only_labelled.contains(&version),
        }
    }

    /// Why the version that a request means which names none does not serve, if it was tried.
    fn default_failure(&self) -> Option<(Version, &Error)> {
        let failures = self.versions.iter().rev();
        let mut failures =
            failures.filter_map(|(version, state)| Some((*version, state.failure()?)));
        failures.find(|(version, _)| self.may_be_default(*version))
    }

    /// Why what lies in the repository now did not take a version's place.
    pub fn refused_reason(&self, version: Version) -> Option<String> {
        let error = self.refused.get(&version)?;
        Some(format!(
            "what is in the repository now failed to load: {}",
            error.chain()
        ))
    }

    /// Whether it was taken out of service.
    fn is_unloaded(&self) -> bool {
        !self.versions.is_empty() && self.versions.values().all(VersionState::is_unloaded)
    }

    pub(super) fn unserved_reason(&self) -> Option<String> {
        if self.is_served() {
            return None;
        }
        if let Some(problem) = &self.problem {
            return Some(problem.clone());
        }
        Some(match (self.default_failure(), self.default_version) {
            (Some((version, error)), _) => format!("version {version}: {}", error.chain()),
            _ if self.is_unloaded() => "it was unloaded".to_owned(),
            (None, Some(version)) => format!(
                "its default version {version} is not served; the versions served are {}",
                self.version_list()
            ),
            (None, None) => "it has no version".to_owned(),
        })
    }

    pub(super) fn resolve_default(&self, name: &str) -> Result<Arc<Deployment>> {
        if let Some(deployment) = self.default_deployment() {
            return Ok(deployment.clone());
        }
        let mut states = self.versions.values();
        if states.any(|state| matches!(state, VersionState::Loading)) {
            return Err(not_ready(format!(
                "model '{name}' is being loaded; try again"
            )));
        }
        match self.default_failure() {
            Some((_, error)) => Err(not_served(name, error)),
            None if self.is_unloaded() => Err(unloaded(name)),
            None => Err(not_ready(format!(
                "model '{name}' is not served: {}",
                self.unserved_reason().unwrap_or_default()
            ))),
        }
    }

    pub(super) fn resolve_version(&self, name: &str, written: &str) -> Result<Arc<Deployment>> {
        match self
            .version(written)
            .map(|version| self.versions.get(&version))
        {
            Some(Some(VersionState::Ready(deployment))) => Ok(deployment.clone()),
            Some(Some(VersionState::Loading)) => Err(not_ready(format!(
                "model '{name}' version {written} is being loaded; try again"
            ))),
            Some(Some(VersionState::Failed(error))) => Err(not_served(name, error)),
            Some(Some(VersionState::Draining(_) | VersionState::Unloaded))
                if self.is_unloaded() =>
            {
                Err(unloaded(name))
            }
            _ if self.problem.is_some() && !self.is_served() => self.resolve_default(name),
            _ => Err(self.no_version(name, written)),
        }
    }

    /// The number of a version that is written as a number or as one of the model's labels.
    pub fn version(&self, written: &str) -> Option<Version> {
        match VersionName::parse(written)? {
            VersionName::Number(version) => Some(version),
            VersionName::Label(label) => self.labels.get(&label).copied(),
        }
    }

    fn no_version(&self, name: &str, written: &str) -> Error {
        let mut message = format!(
            "model '{name}' has no version '{written}'; the versions served are {}",
            self.version_list()
        );
        if let Some(labels) = self.label_list() {
            message.push_str("; the labels are ");
            message.push_str(&labels);
        }
        Error::not_found(message)
    }

    /// The labels with their versions, for messages, where there are any.
    pub fn label_list(&self) -> Option<String> {
        let labels = self.labels.iter();
        let labels: Vec<_> = labels
            .map(|(label, version)| format!("'{label}' ({version})"))
            .collect();
        (!labels.is_empty()).then(|| labels.join(", "))
    }

    /// The labels with their versions, as `canary=2, stable=1`, where there are any.
    pub fn labels_in_words(&self) -> Option<String> {
        let labels = self.labels.iter();
        let labels: Vec<_> = labels
            .map(|(label, version)| format!("{label}={version}"))
            .collect();
        (!labels.is_empty()).then(|| labels.join(", "))
    }

    /// The labels of one version.
    pub fn labels_of(&self, version: Version) -> impl Iterator<Item = &String> {
        let labels = self.labels.iter();
        let labels = labels.filter(move |(_, labelled)| **labelled == version);
        labels.map(|(label, _)| label)
    }

    /// The versions that take traffic, for messages.
    pub fn version_list(&self) -> String {
        let versions: Vec<_> = self
            .served()
            .map(|(version, _)| format!("'{version}'"))
            .collect();
        if versions.is_empty() {
            "none".to_owned()
        } else {
            versions.join(", ")
        }
    }
}

pub(super) fn not_ready(message: String) -> Error {
    Error::unavailable(message).with_retry_after(LOADING_RETRY)
}

/// It will not come back by waiting, so nobody is told to try again.
fn unloaded(name: &str) -> Error {
    Error::not_found(format!(
        "model '{name}' was unloaded; POST /v2/repository/models/{name}/load brings it back"
    ))
}

/// A model that failed for want of an operator will not get better by waiting.
fn not_served(name: &str, error: &Error) -> Error {
    let message = format!("model '{name}' is not served: {}", error.chain());
    match error.kind() {
        ErrorKind::Unimplemented => Error::unimplemented(message),
        _ => Error::unavailable(message),
    }
}
