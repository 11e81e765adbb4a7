//! What is in the repository and in which state, and the control over what is served.

use super::Service;
use crate::config::RepositoryMode;
use crate::error::{Error, ErrorKind, Result};
use crate::serving::orders::{Action, Orders};
use crate::serving::registry::VersionState;

/// One version of a model in the repository, or a model that has none to name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    pub name: String,
    /// Empty where the model as a whole cannot be loaded.
    pub version: String,
    pub state: IndexState,
    /// Why it is not ready; empty where there is nothing to say.
    pub reason: String,
}

/// The state of a version, as the protocol calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexState {
    Ready,
    Unavailable,
    Loading,
    Unloading,
}

impl IndexState {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            IndexState::Ready => "READY",
            IndexState::Unavailable => "UNAVAILABLE",
            IndexState::Loading => "LOADING",
            IndexState::Unloading => "UNLOADING",
        }
    }
}

/// Through which door a request to load or unload came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Where requests to models come in.
    Public,
    /// `server.admin_address`.
    Admin,
}

/// A request to load or to unload a model.
#[derive(Debug, Clone)]
pub struct Control<'a> {
    pub model: &'a str,
    /// The names of its parameters, whose values are not looked at: `unload_dependents` says nothing here, where no
    /// model depends on another, and every other is refused.
    pub parameters: Vec<&'a str>,
    pub door: Door,
}

/// How models are loaded and unloaded while the server runs.
#[derive(Debug, Clone)]
pub struct ModelControl {
    pub orders: Orders,
    /// Whether only whoever comes in at `server.admin_address` may.
    pub admin_only: bool,
}

impl Service {
    /// Every version in the repository, or only those that take traffic.
    pub fn index(&self, ready_only: bool) -> Vec<IndexEntry> {
        let table = self.registry.table();
        let mut index = Vec::new();
        for (name, model) in &table.models {
            let entry = |version: String, state, reason: Option<String>| IndexEntry {
                name: name.clone(),
                version,
                state,
                reason: reason.unwrap_or_default(),
            };
            if let Some(problem) = &model.problem {
                let state = IndexState::Unavailable;
                index.push(entry(String::new(), state, Some(problem.clone())));
            }
            index.extend(model.versions.iter().map(|(version, state)| {
                let (state, reason) = match state {
                    VersionState::Loading => (IndexState::Loading, None),
                    VersionState::Ready(_) => (IndexState::Ready, model.refused_reason(*version)),
                    VersionState::Failed(error) => (IndexState::Unavailable, Some(error.chain())),
                    VersionState::Draining(_) => (IndexState::Unloading, None),
                    VersionState::Unloaded => {
                        (IndexState::Unavailable, Some("unloaded".to_owned()))
                    }
                };
                entry(version.to_string(), state, reason)
            }));
        }
        index.retain(|entry| !ready_only || entry.state == IndexState::Ready);
        index
    }

    /// Loads a model as it is in the repository now; one that is served goes on until the new one has proven itself.
    pub async fn load(&self, control: Control<'_>) -> Result<()> {
        self.order(Action::Load, control).await
    }

    /// Takes a model out of service, once what is in flight is answered.
    pub async fn unload(&self, control: Control<'_>) -> Result<()> {
        self.order(Action::Unload, control).await
    }

    async fn order(&self, action: Action, control: Control<'_>) -> Result<()> {
        let Control {
            model,
            parameters,
            door,
        } = control;
        let orders = self.orders(door)?;
        check_parameters(&parameters)?;
        if self.shutdown.is_draining() {
            return Err(Error::shutting_down());
        }
        let answer = orders.give(action, model)?;
        match tokio::time::timeout(self.settings.request_timeout, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::shutting_down()),
            Err(_) => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!(
                    "model '{model}': this takes longer than a request may, and goes on; the repository index tells how it ends"
                ),
            )),
        }
    }

    /// Whom to give orders, if whoever comes through this door may.
    fn orders(&self, door: Door) -> Result<&Orders> {
        let Some(ModelControl { orders, admin_only }) = &self.control else {
            let what = match self.settings.mode {
                RepositoryMode::Watch => "models follow what is in the repository",
                RepositoryMode::Static | RepositoryMode::Explicit => {
                    "models are loaded at start and stay"
                }
            };
            return Err(Error::permission_denied(format!(
                "{what}; set repository.mode (ONNXD_REPOSITORY__MODE) to 'explicit' to load and unload them",
            )));
        };
        if *admin_only && door == Door::Public {
            return Err(Error::permission_denied(
                "models are loaded and unloaded over HTTP on server.admin_address, and nowhere else",
            ));
        }
        Ok(orders)
    }
}

fn check_parameters(parameters: &[&str]) -> Result<()> {
    for name in parameters {
        let is_override = *name == "config" || name.starts_with("file:");
        match *name {
            "unload_dependents" => {}
            _ if is_override => {
                return Err(Error::invalid(format!(
                    "parameter '{name}': a model is loaded as it is in the repository, and nothing of it can be overridden"
                )));
            }
            _ => {
                return Err(Error::invalid(format!(
                    "unknown parameter '{name}'; the only one is 'unload_dependents'"
                )));
            }
        }
    }
    Ok(())
}
