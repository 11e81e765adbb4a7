//! The map that requests look their model up in, swapped whole so that no request ever waits for a change.

use std::cell::Cell;
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
}

/// The state of one version.
#[derive(Clone)]
pub enum VersionState {
    Loading,
    Ready(Arc<Deployment>),
    Failed(Arc<Error>),
}

impl VersionState {
    /// The state's name in health, metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            VersionState::Loading => "loading",
            VersionState::Ready(_) => "ready",
            VersionState::Failed(_) => "failed",
        }
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

    /// Changes the models; requests see all of the change or none.
    pub fn update(&self, change: impl Fn(&mut Table)) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            change(&mut table);
            table
        });
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
        let replaced = Cell::new(false);
        self.update(|table| {
            let versions = table.models.get_mut(&old.facts.model);
            let states = versions
                .into_iter()
                .flat_map(|model| model.versions.values_mut());
            replaced.set(false);
            for state in states.filter(|state| is_old(state)) {
                *state = VersionState::Ready(new.clone());
                replaced.set(true);
            }
        });
        replaced.get()
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
        if loading.is_some() {
            return loading;
        }
        let unserved = self
            .models
            .iter()
            .find_map(|(name, model)| Some((name, model.unserved_reason()?)));
        match unserved {
            Some((name, reason)) if require_all => {
                Some(format!("model '{name}' is not served: {reason}"))
            }
            _ if !self.models.values().any(ModelEntry::is_served) => Some(match unserved {
                Some((name, reason)) => format!("no model is served; '{name}': {reason}"),
                None => "no model is served: the repository is empty".to_owned(),
            }),
            _ => None,
        }
    }
}

impl ModelEntry {
    /// The versions that take traffic, newest first.
    pub fn served(&self) -> impl Iterator<Item = (Version, &Arc<Deployment>)> {
        self.versions
            .iter()
            .rev()
            .filter_map(|(version, state)| match state {
                VersionState::Ready(deployment) => Some((*version, deployment)),
                VersionState::Loading | VersionState::Failed(_) => None,
            })
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
        let mut failures = failures.filter_map(|(version, state)| match state {
            VersionState::Failed(error) => Some((*version, error.as_ref())),
            VersionState::Loading | VersionState::Ready(_) => None,
        });
        failures.find(|(version, _)| self.may_be_default(*version))
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
            None if self.problem.is_some() => self.resolve_default(name),
            None => Err(Error::not_found(format!(
                "model '{name}' has no version '{written}'; the versions served are {}",
                self.version_list()
            ))),
        }
    }

    fn version_list(&self) -> String {
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

/// A model that failed for want of an operator will not get better by waiting; a rollout may mend other failures.
fn not_served(name: &str, error: &Error) -> Error {
    let message = format!("model '{name}' is not served: {}", error.chain());
    match error.kind() {
        ErrorKind::Unimplemented => Error::unimplemented(message),
        _ => Error::unavailable(message).with_retry_after(Duration::from_secs(30)),
    }
}
