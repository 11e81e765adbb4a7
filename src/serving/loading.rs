//! Loads one version: tried out in a process of its own first, then on a thread that can be given up.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::agreement::verdict::Verdict;
use super::deployment::{Deployment, Machinery};
use super::golden::GoldenFiles;
use super::statistics::Statistics;
use super::trial::{Candidate, Judged, Trial, Tried};
use crate::allocator;
use crate::engine::STACK_BYTES;
use crate::error::{Error, Result, guarded};
use crate::repository::{ModelFiles, Version};
use crate::telemetry::logging::milliseconds;

/// The version that is to be loaded.
#[derive(Clone)]
pub struct Wanted {
    pub model: String,
    pub version: Version,
    pub files: ModelFiles,
    /// What it has done so far, where it is loaded anew.
    pub statistics: Arc<Statistics>,
}

/// How long a load waits for what others take only while they load.
const MOST_WAIT: Duration = Duration::from_secs(30);

/// What of a file is in memory beside the model while that is loaded: as it is read, and as the engine takes it apart.
const TIMES_THE_FILE: u64 = 2;

/// When to try again what was given up.
const GIVEN_UP_RETRY: Duration = Duration::from_secs(30);

/// About how much memory loading a model takes that holds so much, from a file of this size.
pub fn estimate(held: u64, file: u64) -> u64 {
    held.saturating_add(file.saturating_mul(TIMES_THE_FILE))
}

/// About how much memory loading takes here, on one engine.
fn needed_bytes(path: Option<&Path>, verdict: Option<&Verdict>, taken: Option<u64>) -> u64 {
    let metadata = path.and_then(|path| path.metadata().ok());
    let file = metadata.map_or(0, |metadata| metadata.len());
    let held = match verdict.map(Verdict::serving) {
        // None will be loaded.
        Some(Err(_)) => return 0,
        Some(Ok(serving)) => serving[0].loading.held_bytes,
        None => None,
    };
    let held = held.unwrap_or(file);
    let estimate = estimate(held, file);
    // The trial did no less.
    taken.map_or(estimate, |taken| estimate.min(taken.max(held)))
}

impl Machinery {
    /// Loads a version and starts its workers, or says in the log and to the caller why not.
    pub fn load(&self, wanted: Wanted) -> Result<Deployment> {
        let started = Instant::now();
        let (model, version) = (wanted.model.clone(), wanted.version);
        let loaded = self.load_on_its_own_thread(wanted);
        let took_ms = milliseconds(started.elapsed());
        match &loaded {
            Ok(deployment) => {
                let engine = deployment.loaded.engine;
                tracing::info!(model, version, engine, took_ms, "model loaded");
            }
            Err(error) => {
                self.metrics.load_failed(&model, &version.to_string());
                if error.is_out_of_memory() {
                    self.metrics
                        .load_out_of_memory(&model, &version.to_string());
                }
                let reason = error.chain();
                tracing::error!(model, version, took_ms, reason, "model failed to load");
            }
        }
        loaded
    }

    /// Loads a version on a thread that can be given up: an engine that does not end must not hold the others up.
    fn load_on_its_own_thread(&self, wanted: Wanted) -> Result<Deployment> {
        let Machinery {
            trial,
            load_timeout,
            metrics,
            memory,
            ..
        } = self;
        let Wanted {
            model,
            version,
            files,
            ..
        } = &wanted;
        let rules = files.manifest.engine_rules(&self.engine_rules);
        let engines = self.engines.chosen(&rules.engine)?;
        // Before its time begins, so that a model which hangs does not cost others theirs.
        let turn = trial.as_ref().map(Trial::turn);
        let deadline = Instant::now() + *load_timeout;
        let (name, number) = (model.clone(), version.to_string());
        let given_up = || {
            metrics.load_abandoned(&name, &number);
            Error::unavailable(format!(
                "loading took longer than inference.load_timeout_ms ({} ms) and was given up",
                load_timeout.as_millis()
            ))
        };
        let path = files.versions.get(version);
        let tried = match (trial, turn, path) {
            (Some(trial), Some(turn), Some(path)) => {
                let rules = self.examination(&rules);
                let golden = &GoldenFiles::of(files, *version);
                let candidate = Candidate {
                    path,
                    golden,
                    engines: &engines,
                    rules,
                    memory,
                    deadline,
                };
                trial.run(turn, &candidate)?
            }
            _ => Tried::Silent,
        };
        let (verdict, taken, _turn) = match tried {
            Tried::Judged(Judged {
                verdict,
                taken_bytes,
                turn,
            }) => (Some(verdict), taken_bytes, turn),
            // Its process is gone, and the next time the file may be read faster.
            Tried::TimedOut => return Err(given_up().with_retry_after(GIVEN_UP_RETRY)),
            Tried::Silent => (None, None, None),
        };
        let needed = needed_bytes(path.map(PathBuf::as_path), verdict.as_ref(), taken);
        // What a load that never ends was promised does not come back.
        let patience = deadline.min(Instant::now() + MOST_WAIT);
        let promise = memory.promise(needed, patience)?;
        let (reply, loaded) = mpsc::sync_channel(1);
        let machinery = self.clone();
        let load = move || {
            let load = || Deployment::load(&machinery, &wanted, verdict, promise);
            let loaded = guarded("while loading", load);
            // Loading takes more than what is left in the end.
            allocator::give_back();
            // Nobody listens any more once the load was given up.
            let _ = reply.send(loaded);
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
}
