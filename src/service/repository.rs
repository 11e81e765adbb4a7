//! What is in the repository and in which state, and the control over what is served.

use super::Service;
use crate::error::{Error, Result};
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
                    VersionState::Ready(_) => (IndexState::Ready, None),
                    VersionState::Failed(error) => (IndexState::Unavailable, Some(error.chain())),
                };
                entry(version.to_string(), state, reason)
            }));
        }
        index.retain(|entry| !ready_only || entry.state == IndexState::Ready);
        index
    }

    /// Loads a model as it is in the repository now; one that is served goes on until the new one has proven itself.
    pub async fn load(&self, control: Control<'_>) -> Result<()> {
        self.check_control(&control)
    }

    /// Takes a model out of service, once what is in flight is answered.
    pub async fn unload(&self, control: Control<'_>) -> Result<()> {
        self.check_control(&control)
    }

    fn check_control(&self, _: &Control<'_>) -> Result<()> {
        Err(Error::permission_denied(
            "models are loaded at start and stay: set repository.mode (ONNXD_REPOSITORY__MODE) to 'explicit' to load and unload them",
        ))
    }
}
