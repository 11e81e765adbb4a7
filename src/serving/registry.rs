//! The map that requests look their model up in, swapped whole so that no request ever waits for a change.

mod entry;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use self::entry::not_ready;
pub use self::entry::{ModelEntry, VersionState};
use super::deployment::Deployment;
use crate::error::{Error, Result};
use crate::repository::manifest::quoted;

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

    /// Whether this is what serves its version.
    pub fn serves(&self, deployment: &Arc<Deployment>) -> bool {
        let served = self.deployments();
        served.iter().any(|served| Arc::ptr_eq(served, deployment))
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
        let model = self.model(name)?;
        match &target.version {
            Some(version) => model.resolve_version(name, version),
            None => model.resolve_default(name),
        }
    }

    /// Finds a model's entry by name.
    pub fn model(&self, name: &str) -> Result<&ModelEntry> {
        self.models
            .get(name)
            .filter(|model| !model.is_removed)
            .ok_or_else(|| self.unknown_model(name))
    }

    /// The names of the models, but for those that only finish what they have.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        let there = self.models.iter().filter(|(_, model)| !model.is_removed);
        there.map(|(name, _)| name)
    }

    fn no_default(&self) -> Error {
        self.not_found("there is no default model: name one in the path, or set models.default")
    }

    fn unknown_model(&self, name: &str) -> Error {
        self.not_found(&format!("unknown model '{name}'"))
    }

    /// Says what is there instead, if that is known.
    fn not_found(&self, what: &str) -> Error {
        match &self.scan {
            Scan::Running => not_ready("the model repository is being read; try again".to_owned()),
            Scan::Failed(reason) => not_ready(reason.clone()),
            Scan::Done if self.names().next().is_none() => {
                Error::not_found(format!("{what}: the repository is empty"))
            }
            Scan::Done => {
                let names = quoted(self.names());
                Error::not_found(format!("{what}; the models are {names}"))
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
                let mut there = self.models.iter().filter(|(_, model)| !model.is_removed);
                Some(match there.find_map(unserved) {
                    Some((name, reason)) => format!("no model is served; '{name}': {reason}"),
                    None => "no model is served: the repository is empty".to_owned(),
                })
            }
            _ => None,
        }
    }
}

fn unserved<'a>((name, model): (&'a String, &ModelEntry)) -> Option<(&'a String, String)> {
    Some((name, model.unserved_reason()?))
}
