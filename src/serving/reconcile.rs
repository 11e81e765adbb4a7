//! Brings what is live in line with what is in storage: reads the repository, picks versions, loads them, and shows
//! every step in the registry.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use super::deployment::{Deployment, Machinery};
use super::registry::{ModelEntry, Registry, Scan, VersionState};
use super::trial::{Candidate, Trial, Tried};
use crate::config::ModelsConfig;
use crate::engine::STACK_BYTES;
use crate::error::{Error, Result, guarded};
use crate::repository::manifest::{VersionPolicy, version_number};
use crate::repository::{FoundModel, ModelFiles, Snapshot, Version, policy, store};
use crate::telemetry::logging::milliseconds;

/// Loads a repository into a registry.
pub struct Reconciler {
    pub path: PathBuf,
    pub models: ModelsConfig,
    pub machinery: Machinery,
    pub registry: Arc<Registry>,
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
    }

    fn apply(&self, snapshot: Snapshot) {
        for reason in &snapshot.passed_over {
            tracing::warn!(reason, "passed over in the model repository");
        }
        let default_model = self.default_model(&snapshot);
        let pinned = self.models.version.as_deref().and_then(version_number);
        let mut work = Vec::new();
        let mut entries = BTreeMap::new();
        for (name, found) in snapshot.models {
            let pin = pinned.filter(|_| default_model.as_ref() == Some(&name));
            let (entry, loads) = plan(&name, found, pin);
            entries.insert(name, entry);
            work.extend(loads);
        }
        if entries.is_empty() {
            tracing::warn!(path = %self.path.display(), "the model repository holds no model");
        }
        for (name, model) in &entries {
            if model.problem.is_some() {
                self.machinery.metrics.set_model_state(name, "", "failed");
            }
            for (version, state) in &model.versions {
                self.machinery
                    .metrics
                    .set_model_state(name, &version.to_string(), state.name());
            }
        }
        self.registry.update(|table| {
            table.models = entries.clone();
            table.default_model = default_model.clone();
            table.scan = Scan::Done;
        });
        self.load_all(work);
        if let Some(trial) = &self.machinery.trial {
            trial.rest();
        }
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
        let mut names = snapshot.models.keys();
        let only = names.next().filter(|_| names.next().is_none());
        named.or_else(|| only.cloned())
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
                        self.load_model(load);
                    }
                });
            }
        });
    }

    fn load_model(&self, load: Load) {
        let Load { name, files, plan } = load;
        let mut served = 0;
        let mut candidates = plan.candidates.into_iter().peekable();
        while let Some(version) = candidates.next() {
            let state = match self.load_version(&name, version, &files) {
                Ok(deployment) => {
                    served += 1;
                    VersionState::Ready(Arc::new(deployment))
                }
                Err(error) => VersionState::Failed(Arc::new(error)),
            };
            let next = candidates.peek().filter(|_| served < plan.wanted);
            // In one step, so that the server is never ready between two versions.
            let states = [(version, state)]
                .into_iter()
                .chain(next.map(|next| (*next, VersionState::Loading)));
            self.show(&name, states.collect());
            if next.is_none() {
                return;
            }
        }
    }

    fn load_version(&self, name: &str, version: Version, files: &ModelFiles) -> Result<Deployment> {
        let started = Instant::now();
        let loaded = self.load_on_its_own_thread(name, version, files);
        let took_ms = milliseconds(started.elapsed());
        match &loaded {
            Ok(deployment) => {
                let loaded = &deployment.loaded;
                let engine = loaded.engine;
                tracing::info!(model = name, version, engine, took_ms, "model loaded");
                let metrics = &self.machinery.metrics;
                metrics.set_model_loaded(name, &version.to_string(), loaded);
            }
            Err(error) => tracing::error!(
                model = name,
                version,
                took_ms,
                reason = error.chain(),
                "model failed to load"
            ),
        }
        loaded
    }

    /// Loads a version on a thread that can be given up: an engine that does not end must not hold the others up.
    fn load_on_its_own_thread(
        &self,
        name: &str,
        version: Version,
        files: &ModelFiles,
    ) -> Result<Deployment> {
        let Machinery {
            trial,
            load_timeout,
            metrics,
            ..
        } = &self.machinery;
        let rules = files.manifest.engine_rules(&self.machinery.engine_rules);
        let engines = self.machinery.engines.chosen(&rules.engine)?;
        // Before its time begins, so that a model which hangs does not cost others theirs.
        let turn = trial.as_ref().map(Trial::turn);
        let deadline = Instant::now() + *load_timeout;
        let given_up = || {
            metrics.load_abandoned(name, &version.to_string());
            Error::unavailable(format!(
                "loading took longer than inference.load_timeout_ms ({} ms) and was given up",
                load_timeout.as_millis()
            ))
        };
        let path = files.versions.get(&version);
        let tried = match (trial, turn, path) {
            (Some(trial), Some(turn), Some(path)) => {
                let rules = self.machinery.examination(&rules);
                let candidate = Candidate {
                    path,
                    engines: &engines,
                    rules,
                    deadline,
                };
                trial.run(turn, &candidate)?
            }
            _ => Tried::Silent,
        };
        let (verdict, _turn) = match tried {
            Tried::Judged(verdict, turn) => (Some(verdict), turn),
            Tried::TimedOut => return Err(given_up()),
            Tried::Silent => (None, None),
        };
        let (reply, loaded) = mpsc::sync_channel(1);
        let load = {
            let (machinery, name, files) = (self.machinery.clone(), name.to_owned(), files.clone());
            let statistics = Arc::default();
            move || {
                let load =
                    || Deployment::load(&machinery, &name, version, &files, verdict, statistics);
                // Nobody listens any more once the load was given up.
                let _ = reply.send(guarded("while loading", load));
            }
        };
        let thread = thread::Builder::new()
            .name(format!("load-{name}"))
            .stack_size(STACK_BYTES);
        let unstarted =
            |error| Error::internal("a loading thread did not start").with_source(error);
        thread.spawn(load).map_err(unstarted)?;
        let left = deadline.saturating_duration_since(Instant::now());
        loaded
            .recv_timeout(left)
            .unwrap_or_else(|_| Err(given_up()))
    }

    fn show(&self, name: &str, states: Vec<(Version, VersionState)>) {
        for (version, state) in &states {
            self.machinery
                .metrics
                .set_model_state(name, &version.to_string(), state.name());
        }
        self.registry.update(|table| {
            if let Some(model) = table.models.get_mut(name) {
                model.versions.extend(states.iter().cloned());
            }
        });
    }
}

/// One model to load.
struct Load {
    name: String,
    files: ModelFiles,
    plan: policy::Plan,
}

/// A model's first entry, and what is to be loaded for it. A pin takes the place of the model's own policy.
fn plan(name: &str, found: FoundModel, pin: Option<Version>) -> (ModelEntry, Option<Load>) {
    let files = match found {
        Ok(files) => files,
        Err(problem) => {
            tracing::error!(model = name, reason = problem, "model cannot be loaded");
            return (
                ModelEntry {
                    problem: Some(problem),
                    ..ModelEntry::default()
                },
                None,
            );
        }
    };
    let pinned = pin.map(|version| VersionPolicy::Pinned(vec![version]));
    let policy = pinned.as_ref().unwrap_or(&files.manifest.versions);
    let plan = policy::plan(policy, files.versions.keys().copied());
    let mut entry = ModelEntry {
        default_version: pin.or(files.manifest.default_version),
        ..ModelEntry::default()
    };
    for version in &plan.missing {
        let found: Vec<_> = files.versions.keys().map(ToString::to_string).collect();
        let reason = format!(
            "it is asked for (by MODEL_VERSION, models.version or model.toml) and the repository has {}",
            found.join(", ")
        );
        tracing::error!(model = name, version, reason, "model cannot be loaded");
        entry.versions.insert(
            *version,
            VersionState::Failed(Arc::new(Error::unavailable(reason))),
        );
    }
    // Shown as being loaded from the start, so that readiness never comes too early.
    for version in plan.candidates.iter().take(plan.wanted) {
        entry.versions.insert(*version, VersionState::Loading);
    }
    (
        entry,
        Some(Load {
            name: name.to_owned(),
            files,
            plan,
        }),
    )
}
