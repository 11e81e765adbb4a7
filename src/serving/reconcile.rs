//! Brings what is live in line with what is in storage: reads the repository, picks versions, loads them, and carries
//! out the orders that come later. The board shows every step.

mod by_order;
mod follow;
mod load;
mod tries;
mod versions;

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use self::load::{Effort, Load};
use self::tries::Tries;
use super::board::Board;
use super::deployment::Machinery;
use super::orders::Order;
use super::registry::{ModelEntry, Registry, Scan};
use crate::config::ModelsConfig;
use crate::repository::manifest::version_number;
use crate::repository::store::Source;
use crate::repository::watch::Found;
use crate::repository::{ModelFiles, Snapshot};

/// Loads a repository into a registry.
pub struct Reconciler {
    pub source: Arc<dyn Source>,
    pub models: ModelsConfig,
    pub machinery: Machinery,
    pub registry: Arc<Registry>,
    pub board: Board,
}

/// The repository cannot be read, as the log says.
struct Unreadable;

impl Reconciler {
    /// Reads the repository once and loads what it holds. Blocks until every load has ended.
    ///
    /// Where the repository cannot be read and may be later, that is tried again until it can. Orders are refused
    /// meanwhile: what they would be carried out beside is not known yet.
    pub fn run(&self, orders: &Receiver<Order>) {
        while self.start().is_err() {
            match self.source.again() {
                Some(pause) => by_order::refuse(orders, pause),
                None => break,
            }
        }
        self.rest();
    }

    fn start(&self) -> Result<(), Unreadable> {
        match self.source.look(&Snapshot::default()) {
            Ok(snapshot) => {
                self.load_at_start(snapshot);
                Ok(())
            }
            Err(error) => {
                let reason = error.chain();
                tracing::error!(reason, "the model repository cannot be read");
                self.machinery.metrics.set_repository_readable(false);
                self.registry
                    .update(|table| table.scan = Scan::Failed(reason.clone()));
                Err(Unreadable)
            }
        }
    }

    /// Gives back what only loading needs.
    fn rest(&self) {
        if let Some(trial) = &self.machinery.trial {
            trial.rest();
        }
    }

    /// Loads everything and waits until every load has ended.
    fn load_at_start(&self, snapshot: Snapshot) {
        for reason in &snapshot.passed_over {
            tracing::warn!(reason, "passed over in the model repository");
        }
        for (model, found) in &snapshot.models {
            if let Err(reason) = &found.files {
                tracing::error!(model, reason, "model cannot be loaded");
            }
        }
        let found = Found {
            snapshot,
            unsettled: Vec::new(),
        };
        let work = self.announce(&found);
        self.load_all(work);
        self.registry.update(|table| table.is_settled = true);
    }

    /// Shows what the start has found, before any of it is loaded. Readiness depends on all of that.
    fn announce(&self, found: &Found) -> Vec<Load> {
        let Found {
            snapshot,
            unsettled,
        } = found;
        self.machinery.metrics.set_repository_readable(true);
        let default_model = self.default_model(found);
        let mut work = Vec::new();
        let mut entries = BTreeMap::new();
        for (name, found) in &snapshot.models {
            let is_default = default_model.as_ref() == Some(name);
            let mut entry = required();
            match &found.files {
                Ok(files) => {
                    let load = self.plan(name, files.clone(), is_default, Effort::Changes);
                    load.begin(&mut entry, |_| true);
                    work.push(load);
                }
                Err(problem) => entry.problem = Some(problem.clone()),
            }
            entries.insert(name.clone(), entry);
        }
        for name in unsettled {
            let mut entry = required();
            entry.problem = Some("its files are still being written".to_owned());
            entries.insert(name.clone(), entry);
        }
        for (name, entry) in &entries {
            self.board.announce(name, entry);
        }
        if entries.is_empty() {
            let path = self.source.path().display();
            tracing::warn!(%path, "the model repository holds no model");
        }
        self.registry.update(|table| {
            table.models = entries.clone();
            table.default_model = default_model.clone();
            table.scan = Scan::Done;
        });
        work
    }

    /// Configuration first, then the repository's own word, then the only model there is.
    fn default_model(&self, found: &Found) -> Option<String> {
        let named = self
            .models
            .default
            .clone()
            .or_else(|| found.snapshot.default_model.clone());
        if let Some(name) = &named
            && !found.has(name)
        {
            tracing::warn!(
                model = name,
                "the default model is not in the repository; /predict answers 404"
            );
        }
        named.or_else(|| only(found.names()))
    }

    /// What is to be loaded of a model. A pin takes the place of the default model's own policy.
    fn plan(&self, name: &str, files: ModelFiles, is_default: bool, effort: Effort) -> Load {
        let pin = self.models.version.as_deref().and_then(version_number);
        Load::new(name, files, pin.filter(|_| is_default), effort)
    }

    /// What is wrong with a model as a whole. What serves goes on.
    fn show_problem(&self, name: &str, problem: &str) {
        tracing::error!(model = name, reason = problem, "model cannot be loaded");
        self.board.change(name, |entry| {
            entry.is_removed = false;
            entry.problem = Some(problem.to_owned());
        });
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
                        self.bring(&load, &mut Tries::default());
                    }
                });
            }
        });
    }
}

/// A model that was there at the start.
fn required() -> ModelEntry {
    ModelEntry {
        is_required: true,
        ..ModelEntry::default()
    }
}

fn only<'a>(mut names: impl Iterator<Item = &'a String>) -> Option<String> {
    let only = names.next().filter(|_| names.next().is_none());
    only.cloned()
}
