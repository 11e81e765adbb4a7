//! Chooses the engine and the threads that serve a model best, beside the requests: what agrees is measured with the
//! shapes that requests bring, and the best takes over like a new version.
//!
//! A model serves from the start with the first engine that agreed; the choice comes soon after, and again when the
//! requests have become others.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::agreement;
use super::deployment::{Deployment, Facts, Machinery, Running};
use super::lane::Split;
use super::loading;
use super::measuring::{Way, measure};
use super::memory::Promise;
use super::registry::Registry;
use super::usage::MainLoad;
use crate::allocator;
use crate::config::Aim;
use crate::engine::{Model, ModelSource};
use crate::error::{Result, guarded};
use crate::shutdown::Shutdown;
use crate::telemetry::logging::milliseconds;
use crate::tensor::sample::Sample;
use crate::tensor::signature::CheckedInputs;

/// So many requests of another size tell that a model is used otherwise than it was measured for.
const REQUESTS_TO_TELL: u64 = 100;
/// A way must be so many times as fast as the one that serves to take its place.
const WORTH_IT: f64 = 1.03;

/// The longest that a model which is used ever otherwise waits until it is measured again.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// When models are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Intervals {
    /// The pause after every look at all of them.
    pub pause: Duration,
    /// A model is measured again after this time at the soonest.
    pub measured_again: Duration,
}

impl Default for Intervals {
    fn default() -> Intervals {
        Intervals {
            pause: Duration::from_millis(250),
            measured_again: Duration::from_secs(5),
        }
    }
}

/// Measures what is live and swaps the best in, until the registry is gone.
pub struct Chooser {
    registry: Weak<Registry>,
    machinery: Machinery,
    intervals: Intervals,
    shutdown: Option<Shutdown>,
    measured: HashMap<(String, String), Measured>,
    /// What was replaced and still has requests.
    retiring: Vec<Arc<Deployment>>,
}

/// The memory that was promised to each engine's model, and how much of it that holds.
type Promises = HashMap<&'static str, (Promise, u64)>;

/// What a model was measured for.
struct Measured {
    /// What it was measured as; a version that was loaded anew is another.
    facts: Weak<Facts>,
    /// Which power of two the rows fell under, if there had been requests.
    class: Option<usize>,
    /// Until then it is not measured again; each time waits longer than the one before.
    until: Instant,
    wait: Duration,
}

impl Chooser {
    /// A chooser that has measured nothing yet.
    pub fn new(registry: &Arc<Registry>, machinery: Machinery, intervals: Intervals) -> Chooser {
        Chooser {
            registry: Arc::downgrade(registry),
            machinery,
            intervals,
            shutdown: None,
            measured: HashMap::new(),
            retiring: Vec::new(),
        }
    }

    /// The same, which ends when the server drains: an engine that runs while the process ends may break it.
    pub fn until(self, shutdown: Shutdown) -> Chooser {
        Chooser {
            shutdown: Some(shutdown),
            ..self
        }
    }

    fn is_over(&self) -> bool {
        self.shutdown.as_ref().is_some_and(Shutdown::is_draining)
    }

    /// Blocks until the registry is gone or the server drains.
    pub fn run(mut self) {
        while self.round() {
            thread::sleep(self.intervals.pause);
        }
    }

    /// Looks at every model once; false once it is over.
    pub fn round(&mut self) -> bool {
        let Some(registry) = self.registry.upgrade().filter(|_| !self.is_over()) else {
            return false;
        };
        // While models are being loaded, the memory and the time are theirs.
        if !registry.is_loading() {
            for deployment in registry.deployments() {
                if self.is_over() {
                    return false;
                }
                self.look_at(&registry, deployment);
            }
        }
        self.retire();
        self.measured
            .retain(|_, measured| measured.facts.strong_count() > 0);
        true
    }

    /// Drops what was replaced once no request holds it any more, so that its threads are not waited for where a
    /// request is answered.
    fn retire(&mut self) {
        let retiring = std::mem::take(&mut self.retiring);
        for deployment in retiring {
            match Arc::try_unwrap(deployment) {
                // Its workers may be stuck in an engine; nobody waits for that.
                Ok(idle) => drop(thread::spawn(move || drop(idle))),
                Err(held) => self.retiring.push(held),
            }
        }
    }

    fn look_at(&mut self, registry: &Registry, deployment: Arc<Deployment>) {
        let facts = &deployment.facts;
        let key = (facts.model.clone(), facts.version.clone());
        let main = deployment.usage.main_load();
        let before = self.measured.get(&key);
        let before = before.filter(|before| before.facts.as_ptr() == Arc::as_ptr(facts));
        let is_due = match (before, &main) {
            (None, _) => true,
            (Some(before), Some(main)) if main.requests >= REQUESTS_TO_TELL => {
                if before.class == Some(main.class) {
                    // Counted anew, so that what changes is seen soon.
                    deployment.usage.restart();
                }
                before.class != Some(main.class) && Instant::now() >= before.until
            }
            (Some(_), _) => false,
        };
        if !is_due {
            return;
        }
        let wait = before.map_or(self.intervals.measured_again, |before| before.wait * 2);
        let wait = wait.min(LONGEST_WAIT);
        let class = main.as_ref().map(|main| main.class);
        let chosen = guarded("while it was measured", || {
            match self.choose(&deployment, main)? {
                Some(running) => self.swap(registry, &deployment, running),
                None => {
                    deployment.usage.restart();
                    Ok(())
                }
            }
        });
        // The engines that were not chosen have been dropped.
        allocator::give_back();
        if let Err(error) = chosen {
            let (model, version, reason) = (&key.0, &key.1, error.chain());
            tracing::warn!(
                model,
                version,
                reason,
                "no better engine could be chosen and started"
            );
        }
        let measured = Measured {
            facts: Arc::downgrade(facts),
            class,
            until: Instant::now() + wait,
            wait,
        };
        self.measured.insert(key, measured);
    }

    /// The best way to run the model, if it is another one than now.
    fn choose(&self, deployment: &Deployment, main: Option<MainLoad>) -> Result<Option<Running>> {
        let facts = &deployment.facts;
        let started = Instant::now();
        let (ways, mut promises) = self.ways(deployment)?;
        if ways.len() < 2 {
            return Ok(None);
        }
        let Some(inputs) = inputs(deployment, main) else {
            return Ok(None);
        };
        let seconds = measure(
            &ways,
            &inputs,
            facts.rules.aim,
            &self.machinery.budget,
            &|| self.is_over(),
        );
        let timed = ways.iter().zip(&seconds);
        let timed: Vec<_> = timed
            .filter_map(|(way, seconds)| Some((way, (*seconds)?)))
            .collect();
        let told: Vec<_> = timed
            .iter()
            .map(|(way, seconds)| tell(way, *seconds))
            .collect();
        tracing::info!(
            model = facts.model,
            version = facts.version,
            rows = inputs.rows(),
            measured = told.join(", "),
            took_ms = milliseconds(started.elapsed()),
            "engines measured"
        );
        let best = timed.iter().min_by(|one, other| one.1.total_cmp(&other.1));
        let now = timed.iter().find(|(way, _)| {
            way.engine == deployment.loaded.engine && way.split == deployment.split
        });
        let Some((best, seconds)) = best else {
            return Ok(None);
        };
        let is_worth_it = now.is_none_or(|(_, now)| now / seconds > WORTH_IT);
        let aim = match facts.rules.aim {
            Aim::Throughput => "throughput",
            Aim::Latency => "latency",
        };
        let held = match promises.remove(best.engine) {
            Some((promise, bytes)) if is_worth_it => Arc::new(promise.keep(bytes)),
            _ => deployment.held().clone(),
        };
        Ok(is_worth_it.then(|| Running {
            engine: best.engine,
            model: best.model.clone(),
            why: format!(
                "measured the best for {aim} with rows = {}: {}",
                inputs.rows(),
                told.join(", ")
            ),
            split: best.split,
            held,
            // Measuring is no part of loading.
            took: deployment.loaded.took,
        }))
    }

    /// Every way to run the model: with each engine that answers alike, in each split of the threads. The engine that
    /// serves now comes first. The others are loaded beside it, as far as the memory goes.
    fn ways(&self, deployment: &Deployment) -> Result<(Vec<Way>, Promises)> {
        let facts = &deployment.facts;
        let threads = self.machinery.budget.threads();
        let in_splits = |models| match facts.split(threads) {
            Some(fixed) => in_split(fixed, models),
            None => split(threads, models),
        };
        let own = (deployment.loaded.engine, deployment.model().clone());
        let mut models: Vec<(&'static str, Arc<dyn Model>)> = vec![own];
        let mut others = facts.verdict.like(deployment.loaded.engine);
        if facts.is_changed() {
            // Another file than the one that was examined.
            others.clear();
        }
        let mut promises = Promises::new();
        if others.is_empty() {
            return Ok((in_splits(models), promises));
        }
        let source = ModelSource::read(&facts.path)?;
        for name in others {
            let Some(engine) = self.machinery.engines.named(name) else {
                continue;
            };
            let file = source.bytes.len() as u64;
            let held = facts.verdict.held_bytes(name).unwrap_or(file);
            let needed = loading::estimate(held, file);
            let promise = match self.machinery.memory.promise(needed, Instant::now()) {
                Ok(promise) => promise,
                Err(error) => {
                    let (engine, reason) = (engine.name(), error.chain());
                    tracing::info!(model = facts.model, engine, reason, "not measured");
                    continue;
                }
            };
            let loaded = agreement::load(&**engine, &source, &mut Vec::new())
                .and_then(|model| facts.golden.replay(&source, &*model).map(|()| model));
            match loaded {
                Ok(model) if model.signature() == deployment.signature() => {
                    models.push((engine.name(), model));
                    promises.insert(engine.name(), (promise, held));
                }
                Ok(_) => tracing::info!(
                    model = facts.model,
                    engine = name,
                    "not measured: the file has changed"
                ),
                Err(error) => {
                    let (engine, reason) = (engine.name(), error.chain());
                    tracing::info!(model = facts.model, engine, reason, "not measured");
                }
            }
        }
        Ok((in_splits(models), promises))
    }

    fn swap(&mut self, registry: &Registry, old: &Arc<Deployment>, running: Running) -> Result<()> {
        let facts = &old.facts;
        let new = Arc::new(Deployment::start(&self.machinery, facts.clone(), running)?);
        if !registry.replace(old, new.clone()) {
            return Ok(());
        }
        let (model, version) = (&facts.model, &facts.version);
        let metrics = &self.machinery.metrics;
        metrics.set_model_loaded(model, version, &new.loaded);
        if new.loaded.engine != old.loaded.engine {
            metrics.unset_model_engine(model, version, &old.loaded);
        }
        tracing::info!(
            model,
            version,
            engine = new.loaded.engine,
            workers = new.split.workers,
            threads = new.split.threads,
            instead_of = old.loaded.engine,
            why = new.why,
            "engine swapped in"
        );
        self.retiring.push(old.clone());
        Ok(())
    }
}

/// Every way to run these models, which come with the engines that loaded them, on so many threads.
pub fn split(
    threads: usize,
    models: impl IntoIterator<Item = (&'static str, Arc<dyn Model>)>,
) -> Vec<Way> {
    let ways = models.into_iter().flat_map(|(engine, model)| {
        splits(threads, &*model).map(move |split| Way {
            engine,
            model: model.clone(),
            split,
        })
    });
    ways.collect()
}

/// One way to run each of these models: in the split that their owner chose.
fn in_split(split: Split, models: Vec<(&'static str, Arc<dyn Model>)>) -> Vec<Way> {
    let ways = models.into_iter();
    let way = |(engine, model)| Way {
        engine,
        model,
        split,
    };
    ways.map(way).collect()
}

/// How the threads may be shared out: a worker each, or all of them for one run at a time.
fn splits(threads: usize, model: &dyn Model) -> impl Iterator<Item = Split> + use<> {
    let each = Split {
        workers: threads,
        threads: 1,
    };
    let together = Split {
        workers: 1,
        threads,
    };
    let splits_runs = threads > 1 && model.splits_runs();
    // A model may keep what the last of them needs, which shall be the usual one.
    splits_runs.then_some(together).into_iter().chain([each])
}

/// Made-up inputs in the shapes that are used, else in those that the model was seen to run.
fn inputs(deployment: &Deployment, main: Option<MainLoad>) -> Option<CheckedInputs> {
    let signature = deployment.signature();
    let model = deployment.model();
    let sample = Sample {
        seed: 1,
        ..model.sample()?
    };
    let runs = |inputs: &CheckedInputs| {
        guarded("while it was tried", || model.session(1)?.run(inputs)).is_ok()
    };
    let used = main.and_then(|main| sample.inputs_shaped(signature, &main.shapes).ok());
    used.filter(runs).or_else(|| sample.inputs(signature).ok())
}

fn tell(way: &Way, seconds: f64) -> String {
    let Way { engine, split, .. } = way;
    let threads = match split.threads {
        1 => String::new(),
        threads => format!(" on {threads} threads"),
    };
    format!("{engine}{threads} {:.3} ms", seconds * 1e3)
}
