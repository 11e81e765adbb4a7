//! Brings what is live in line with what is in storage: reads the repository, picks versions, loads them, and carries
//! out the orders that come later. The board shows every step.

mod load;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use self::load::{Load, Outcome};
use super::board::{Board, Leaving};
use super::deployment::{Deployment, Machinery};
use super::loading::Wanted;
use super::orders::{Action, Order};
use super::registry::{ModelEntry, Registry, Scan, VersionState};
use crate::config::ModelsConfig;
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::repository::manifest::{VersionPolicy, version_number};
use crate::repository::{ModelFiles, Snapshot, Version, policy, store};

/// Loads a repository into a registry.
pub struct Reconciler {
    pub path: PathBuf,
    pub models: ModelsConfig,
    pub machinery: Machinery,
    pub registry: Arc<Registry>,
    pub board: Board,
}

impl Reconciler {
    /// Reads the repository once and loads what it holds. Blocks until every load has ended.
    pub fn run(&self) {
        match store::scan(&self.path) {
            Ok(snapshot) => self.apply(snapshot),
            Err(error) => {
                let reason = error.chain();
                tracing::error!(reason, "the model repository cannot be read");
                self.registry
                    .update(|table| table.scan = Scan::Failed(reason.clone()));
            }
        }
        self.rest();
    }

    /// Carries out orders until nobody can give any more.
    pub fn carry_out(&self, orders: Receiver<Order>) {
        for order in orders {
            self.obey(order);
            self.rest();
        }
    }

    /// Gives back what only loading needs.
    fn rest(&self) {
        if let Some(trial) = &self.machinery.trial {
            trial.rest();
        }
    }

    fn apply(&self, snapshot: Snapshot) {
        for reason in &snapshot.passed_over {
            tracing::warn!(reason, "passed over in the model repository");
        }
        let default_model = self.default_model(&snapshot);
        let mut work = Vec::new();
        let mut entries = BTreeMap::new();
        for (name, found) in snapshot.models {
            let is_default = default_model.as_ref() == Some(&name);
            let mut entry = ModelEntry {
                is_required: true,
                ..ModelEntry::default()
            };
            match found {
                Ok(files) => {
                    let load = self.plan(&name, files, is_default);
                    load.begin(&mut entry);
                    entry.default_version = load.files.manifest.default_version;
                    work.push(load);
                }
                Err(problem) => {
                    tracing::error!(model = name, reason = problem, "model cannot be loaded");
                    entry.problem = Some(problem);
                }
            }
            self.board.announce(&name, &entry);
            entries.insert(name, entry);
        }
        if entries.is_empty() {
            tracing::warn!(path = %self.path.display(), "the model repository holds no model");
        }
        self.registry.update(|table| {
            table.models = entries.clone();
            table.default_model = default_model.clone();
            table.scan = Scan::Done;
        });
        self.load_all(work);
        self.registry.update(|table| table.is_settled = true);
    }

    /// Configuration first, then the repository's own word, then the only model there is.
    fn default_model(&self, snapshot: &Snapshot) -> Option<String> {
        let named = self
            .models
            .default
            .clone()
            .or_else(|| snapshot.default_model.clone());
        if let Some(name) = &named
            && !snapshot.models.contains_key(name)
        {
            tracing::warn!(
                model = name,
                "the default model is not in the repository; /predict answers 404"
            );
        }
        named.or_else(|| only(snapshot.models.keys()))
    }

    /// What is to be loaded of a model. A pin takes the place of the default model's own policy.
    fn plan(&self, name: &str, mut files: ModelFiles, is_default: bool) -> Load {
        let pinned = self.models.version.as_deref().and_then(version_number);
        if let Some(pin) = pinned.filter(|_| is_default) {
            files.manifest.versions = VersionPolicy::Pinned(vec![pin]);
            files.manifest.default_version = Some(pin);
        }
        Load {
            name: name.to_owned(),
            plan: policy::plan(&files.manifest.versions, files.versions.keys().copied()),
            files,
        }
    }

    /// Loads models side by side, each model's versions one after the other.
    fn load_all(&self, work: Vec<Load>) {
        let loaders = self.machinery.budget.threads().min(work.len());
        let work = Mutex::new(work.into_iter());
        let next = || work.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::thread::scope(|scope| {
            for _ in 0..loaders {
                scope.spawn(|| {
                    while let Some(load) = next() {
                        self.load_versions(&load);
                    }
                });
            }
        });
    }

    /// Tries a model's versions until as many serve as are wanted. One that serves already goes on until the new one
    /// has proven itself, and stays where that fails; where a newer version failed, it is not touched at all.
    fn load_versions(&self, load: &Load) -> Outcome {
        let Load { name, plan, .. } = load;
        let mut outcome = Outcome::default();
        let mut candidates = plan.candidates.iter().copied().peekable();
        while let Some(version) = candidates.next() {
            let serving = self.board.serving(name, version);
            let is_left = serving.is_some() && !outcome.failed.is_empty();
            let loaded = (!is_left).then(|| self.load_version(load, version, serving.as_ref()));
            if serving.is_some() || matches!(loaded, Some(Ok(_))) {
                outcome.served.push(version);
            }
            if let Some(Err(error)) = &loaded {
                outcome.failed.push((version, error.clone()));
            }
            let next = candidates.peek().copied();
            let next = next.filter(|_| outcome.served.len() < plan.wanted);
            // In one step, so that the server is never ready between two versions.
            let replaced = self.board.change(name, |entry| {
                match &loaded {
                    Some(Ok(deployment)) => entry.serve(version, deployment.clone()),
                    Some(Err(error)) => entry.refuse(version, error.clone()),
                    None => {}
                }
                if let Some(next) = next {
                    entry.begin(next);
                }
            });
            self.drain_replaced(name, replaced);
            if next.is_none() {
                break;
            }
        }
        outcome
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
        let loaded = self.machinery.load(wanted);
        loaded.map(Arc::new).map_err(Arc::new)
    }

    fn drain_replaced(&self, name: &str, replaced: Leaving) {
        if !replaced.is_empty() {
            self.board.drain(name, replaced, None, || ());
        }
    }

    fn obey(&self, order: Order) {
        let Order {
            action,
            model,
            reply,
        } = order;
        // Whoever gave the order may have left, here and below.
        match action {
            Action::Load => {
                let loaded = guarded("while loading", || self.load(&model));
                let _ = reply.send(loaded);
            }
            Action::Unload => match self.registry.table().model(&model) {
                Err(unknown) => drop(reply.send(Err(unknown))),
                Ok(_) => {
                    let leaving = self.board.change(&model, ModelEntry::unload);
                    let name = model.clone();
                    let then = move || {
                        tracing::info!(model = name, "model unloaded");
                        let _ = reply.send(Ok(()));
                    };
                    let unloaded = Some(VersionState::Unloaded);
                    self.board.drain(&model, leaving, unloaded, then);
                }
            },
        }
    }

    /// Loads one model as the repository has it now.
    fn load(&self, name: &str) -> Result<()> {
        let mut snapshot = store::scan(&self.path)?;
        let found = snapshot.models.remove(name);
        let found = found.ok_or_else(|| not_in_repository(name, &snapshot))?;
        self.registry.update(|table| {
            if matches!(table.scan, Scan::Failed(_)) {
                (table.scan, table.is_settled) = (Scan::Done, true);
            }
        });
        let files = found.map_err(|problem| self.has_problem(name, problem))?;
        let is_default = self.registry.table().default_model.as_deref() == Some(name);
        let load = self.plan(name, files, is_default);
        self.board.change(name, |entry| load.begin(entry));
        let mut outcome = self.load_versions(&load);
        outcome.failed.extend(load.missing());
        let leaving = self.board.change(name, |entry| load.end(entry, &outcome));
        self.drain_replaced(name, leaving);
        self.registry.update(|table| {
            if table.default_model.is_none() {
                table.default_model = only(table.models.keys());
            }
        });
        match outcome.failed.first() {
            None => Ok(()),
            Some((version, error)) => Err(self.failed(name, *version, error)),
        }
    }

    /// What a model's owner wrote beside it cannot be used.
    fn has_problem(&self, name: &str, problem: String) -> Error {
        tracing::error!(model = name, reason = problem, "model cannot be loaded");
        self.board.change(name, |entry| {
            if !entry.is_served() {
                entry.problem = Some(problem.clone());
            }
        });
        Error::unavailable(format!("model '{name}' cannot be loaded: {problem}"))
    }

    fn failed(&self, name: &str, version: Version, error: &Error) -> Error {
        let kind = match error.kind() {
            ErrorKind::Unimplemented => ErrorKind::Unimplemented,
            _ => ErrorKind::Unavailable,
        };
        let entry = self.board.entry(name).unwrap_or_default();
        let mut message = format!(
            "model '{name}' version {version} failed to load: {}",
            error.chain()
        );
        if entry.is_served() {
            message.push_str("; versions served: ");
            message.push_str(&entry.version_list());
        }
        Error::new(kind, message)
    }
}

fn only<'a>(mut names: impl Iterator<Item = &'a String>) -> Option<String> {
    let only = names.next().filter(|_| names.next().is_none());
    only.cloned()
}

fn not_in_repository(name: &str, snapshot: &Snapshot) -> Error {
    let names: Vec<_> = snapshot
        .models
        .keys()
        .map(|name| format!("'{name}'"))
        .collect();
    Error::not_found(match names.is_empty() {
        true => format!("there is no model '{name}' in the repository, which is empty"),
        false => format!(
            "there is no model '{name}' in the repository; its models are {}",
            names.join(", ")
        ),
    })
}
