//! The map that requests look their model up in, swapped whole so that no request ever waits for a change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use super::deployment::Deployment;
use crate::config::validate::canonical_version;
use crate::error::{Error, ErrorKind, Result};
use crate::repository::Version;

/// What a client is told to wait for a model that is being loaded.
const LOADING_RETRY: Duration = Duration::from_secs(1);

/// The models as requests see them. Reading takes no lock.
#[derive(Default)]
pub struct Registry {
    table: ArcSwap<Table>,
}

/// One moment's models.
#[derive(Clone, Default)]
pub struct Table {
    pub models: BTreeMap<String, ModelEntry>,
    /// What `/predict` means, where that is settled.
    pub default_model: Option<String>,
    pub scan: Scan,
    /// Whether every load that the start began has ended; what is loaded later does not make the server unready.
    pub is_settled: bool,
}

/// How far finding the models has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scan {
    #[default]
    Running,
    Done,
    /// The repository could not be read.
    Failed(String),
}

/// One model: its versions that are served, being loaded, or failed.
#[derive(Clone, Default)]
pub struct ModelEntry {
    pub versions: BTreeMap<Version, VersionState>,
    /// The version that a request means which names none; else the newest that serves.
    pub default_version: Option<Version>,
    /// What is wrong with the model as a whole.
    pub problem: Option<String>,
    /// Why what lies in the repository now did not take the place of a version, which goes on as it was.
    pub refused: BTreeMap<Version, Arc<Error>>,
    /// Whether readiness may depend on it: it was there at the start, and nobody has unloaded it.
    pub is_required: bool,
}

/// The state of one version.
#[derive(Clone)]
pub enum VersionState {
    Loading,
    Ready(Arc<Deployment>),
    Failed(Arc<Error>),
    /// It takes no more requests; those that it has are finished.
    Draining,
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
            VersionState::Draining => "draining",
            VersionState::Unloaded => "unloaded",
        }
    }

    /// What serves, if anything does.
    pub fn deployment(&self) -> Option<&Arc<Deployment>> {
        match self {
            VersionState::Ready(deployment) => Some(deployment),
            VersionState::Loading
            | VersionState::Failed(_)
            | VersionState::Draining
            | VersionState::Unloaded => None,
        }
    }

    /// Why it does not serve as it should, if it was tried.
    fn failure(&self) -> Option<&Error> {
        match self {
            VersionState::Failed(error) => Some(error),
            VersionState::Loading
            | VersionState::Ready(_)
            | VersionState::Draining
            | VersionState::Unloaded => None,
        }
    }

    fn is_unloaded(&self) -> bool {
        matches!(self, VersionState::Draining | VersionState::Unloaded)
    }
}

/// Which model and version a request means.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    pub model: Option<String>,
    pub version: Option<String>,
}

impl Target {
    /// A model's default version.
    pub fn model(name: impl Into<String>) -> Target {
        Target {
            model: Some(name.into()),
            version: None,
        }
    }

    /// One version of a model.
    pub fn version(model: impl Into<String>, version: impl Into<String>) -> Target {
        Target {
            model: Some(model.into()),
            version: Some(version.into()),
        }
    }
}

impl Registry {
    /// The models now.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Changes the models; requests see all of the change or none. The change may be made more than once, each time
    /// from the start.
    pub fn update<T>(&self, mut change: impl FnMut(&mut Table) -> T) -> T {
        let mut told = None;
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            told = Some(change(&mut table));
            table
        });
        told.expect("a change is made at least once")
    }

    /// Every version that takes traffic.
    pub fn deployments(&self) -> Vec<Arc<Deployment>> {
        let table = self.table();
        let served = table.models.values().flat_map(ModelEntry::served);
        served.map(|(_, deployment)| deployment.clone()).collect()
    }

    /// Whether the repository is being read or a version loaded.
    pub fn is_loading(&self) -> bool {
        let table = self.table();
        let mut states = table
            .models
            .values()
            .flat_map(|model| model.versions.values());
        table.scan == Scan::Running || states.any(|state| matches!(state, VersionState::Loading))
    }

    /// Puts one deployment in another's place, unless that has gone meanwhile.
    pub fn replace(&self, old: &Arc<Deployment>, new: Arc<Deployment>) -> bool {
        let is_old = |state: &VersionState| matches!(state, VersionState::Ready(ready) if Arc::ptr_eq(ready, old));
        self.update(|table| {
            let versions = table.models.get_mut(&old.facts.model);
            let mut states = versions
                .into_iter()
                .flat_map(|model| model.versions.values_mut());
            let state = states.find(|state| is_old(state));
            let is_there = state.is_some();
            if let Some(state) = state {
                *state = VersionState::Ready(new.clone());
            }
            is_there
        })
    }

    /// Finds the version that a request means.
    pub fn resolve(&self, target: &Target) -> Result<Arc<Deployment>> {
        self.table.load().resolve(target)
    }
}

impl Table {
    fn resolve(&self, target: &Target) -> Result<Arc<Deployment>> {
        let name = match &target.model {
            Some(name) => name,
            None => self
                .default_model
                .as_ref()
                .ok_or_else(|| self.no_default())?,
        };
        let model = self
            .models
            .get(name)
            .ok_or_else(|| self.unknown_model(name))?;
        match &target.version {
            Some(version) => model.resolve_version(name, version),
            None => model.resolve_default(name),
        }
    }

    /// Finds a model's entry by name.
    pub fn model(&self, name: &str) -> Result<&ModelEntry> {
        self.models
            .get(name)
            .ok_or_else(|| self.unknown_model(name))
    }

    fn no_default(&self) -> Error {
        self.not_found("there is no default model")
    }

    fn unknown_model(&self, name: &str) -> Error {
        self.not_found(&format!("unknown model '{name}'"))
    }

    /// Says what is there instead, if that is known.
    fn not_found(&self, what: &str) -> Error {
        match &self.scan {
            Scan::Running => not_ready("the model repository is being read; try again".to_owned()),
            Scan::Failed(reason) => not_ready(reason.clone()),
            Scan::Done if self.models.is_empty() => {
                Error::not_found(format!("{what}: the repository is empty"))
            }
            Scan::Done => {
                let names: Vec<_> = self.models.keys().map(|name| format!("'{name}'")).collect();
                Error::not_found(format!("{what}; the models are {}", names.join(", ")))
            }
        }
    }

    /// Why the server should not take traffic, if so. With `require_all`, one model without a served version is enough.
    pub fn unready_reason(&self, require_all: bool) -> Option<String> {
        match &self.scan {
            Scan::Running => return Some("the model repository is being read".to_owned()),
            Scan::Failed(reason) => return Some(reason.clone()),
            Scan::Done => {}
        }
        let loading = self.models.iter().find_map(|(name, model)| {
            let version = model
                .versions
                .iter()
                .find(|(_, state)| matches!(state, VersionState::Loading))?
                .0;
            Some(format!("model '{name}' version {version} is being loaded"))
        });
        if loading.is_some() && !self.is_settled {
            return loading;
        }
        let mut required = self.models.iter().filter(|(_, model)| model.is_required);
        match required.find_map(unserved) {
            Some((name, reason)) if require_all => {
                Some(format!("model '{name}' is not served: {reason}"))
            }
            _ if !self.models.values().any(ModelEntry::is_served) => {
                Some(match self.models.iter().find_map(unserved) {
                    Some((name, reason)) => format!("no model is served; '{name}': {reason}"),
                    None => "no model is served: the repository is empty".to_owned(),
                })
            }
            _ => None,
        }
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
        for state in self.versions.values_mut() {
            *state = match state {
                VersionState::Ready(_) | VersionState::Draining => VersionState::Draining,
                VersionState::Loading | VersionState::Failed(_) | VersionState::Unloaded => {
                    VersionState::Unloaded
                }
            };
        }
    }

    /// The versions that take traffic, newest first.
    pub fn served(&self) -> impl Iterator<Item = (Version, &Arc<Deployment>)> {
        self.versions
            .iter()
            .rev()
            .filter_map(|(version, state)| Some((*version, state.deployment()?)))
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
        self.default_version
            .is_none_or(|default| default == version)
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

    fn unserved_reason(&self) -> Option<String> {
        if let Some(problem) = &self.problem {
            return Some(problem.clone());
        }
        if self.is_served() {
            return None;
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

    fn resolve_default(&self, name: &str) -> Result<Arc<Deployment>> {
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

    fn resolve_version(&self, name: &str, written: &str) -> Result<Arc<Deployment>> {
        let version =
            canonical_version(written).and_then(|version| version.parse::<Version>().ok());
        match version.and_then(|version| self.versions.get(&version)) {
            Some(VersionState::Ready(deployment)) => Ok(deployment.clone()),
            Some(VersionState::Loading) => Err(not_ready(format!(
                "model '{name}' version {written} is being loaded; try again"
            ))),
            Some(VersionState::Failed(error)) => Err(not_served(name, error)),
            Some(VersionState::Draining | VersionState::Unloaded) => Err(unloaded(name)),
            None if self.problem.is_some() => self.resolve_default(name),
            None => Err(Error::not_found(format!(
                "model '{name}' has no version '{written}'; the versions served are {}",
                self.version_list()
            ))),
        }
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

fn not_ready(message: String) -> Error {
    Error::unavailable(message).with_retry_after(LOADING_RETRY)
}

fn unserved<'a>((name, model): (&'a String, &ModelEntry)) -> Option<(&'a String, String)> {
    Some((name, model.unserved_reason()?))
}

/// It will not come back by waiting, so nobody is told to try again.
fn unloaded(name: &str) -> Error {
    Error::not_found(format!(
        "model '{name}' was unloaded; POST /v2/repository/models/{name}/load brings it back"
    ))
}

/// A model that failed for want of an operator will not get better by waiting; a rollout may mend other failures.
fn not_served(name: &str, error: &Error) -> Error {
    let message = format!("model '{name}' is not served: {}", error.chain());
    match error.kind() {
        ErrorKind::Unimplemented => Error::unimplemented(message),
        _ => Error::unavailable(message).with_retry_after(Duration::from_secs(30)),
    }
}
