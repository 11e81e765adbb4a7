//! Chooses the engine and the threads that serve a model best, beside the requests: what agrees is measured with the
//! shapes that requests bring, and the best takes over like a new version.
//!
//! Where requests are joined, the best is the one that serves most rows a second in the batches that suit it, and what
//! was measured of them goes over to the new workers.
//!
//! A model serves from the start with the first engine that agreed; the choice comes soon after, and again when the
//! requests have become others.

mod comparison;
mod other;
mod telling;
mod ways;

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use self::comparison::{Comparison, Kind, compare};
use self::other::Other;
use self::telling::Telling;
pub use self::ways::split;
use super::deployment::{Deployment, Facts, Machinery, Running};
use super::loading;
use super::measuring::Way;
use super::memory::Promise;
use super::registry::Registry;
use super::usage::MainLoad;
use crate::allocator;
use crate::config::Aim;
use crate::engine::{Model, ModelSource};
use crate::error::{Result, guarded};
use crate::shutdown::Shutdown;
use crate::telemetry::logging::milliseconds;

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
    telling: Telling,
    /// What was replaced and still has requests.
    retiring: Vec<Arc<Deployment>>,
}

/// The memory that was promised to each engine's model, and how much of it that holds.
type Promises = HashMap<&'static str, (Promise, u64)>;

/// What a model was measured for.
struct Measured {
    /// What it was measured as; a version that was loaded anew is another.
    facts: Weak<Facts>,
    kind: Option<Kind>,
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
            telling: Telling::default(),
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
                self.telling.look_at(&deployment);
                self.look_at(&registry, deployment);
            }
        }
        self.retire();
        self.measured
            .retain(|_, measured| measured.facts.strong_count() > 0);
        self.telling.forget_what_is_gone();
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
        let kind_of = |main| Some(Kind::of(&deployment, main));
        let is_due = match (before, &main) {
            (None, _) => true,
            (Some(before), Some(main)) if main.requests >= REQUESTS_TO_TELL => {
                let is_the_same = before.kind == kind_of(main);
                if is_the_same {
                    // Counted anew, so that what changes is seen soon.
                    deployment.usage.restart();
                }
                !is_the_same && Instant::now() >= before.until
            }
            (Some(_), _) => false,
        };
        if !is_due {
            return;
        }
        let wait = before.map_or(self.intervals.measured_again, |before| before.wait * 2);
        let wait = wait.min(LONGEST_WAIT);
        let kind = match &main {
            Some(main) => kind_of(main),
            None => Kind::made_up(&deployment),
        };
        let chosen = guarded("while it was measured", || {
            match self.choose(registry, &deployment, main)? {
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
            kind,
            until: Instant::now() + wait,
            wait,
        };
        self.measured.insert(key, measured);
    }

    /// The best way to run the model, if it is another one than now.
    fn choose(
        &self,
        registry: &Registry,
        deployment: &Arc<Deployment>,
        main: Option<MainLoad>,
    ) -> Result<Option<Running>> {
        let facts = &deployment.facts;
        let started = Instant::now();
        let (ways, mut promises) = self.ways(deployment)?;
        if ways.len() < 2 {
            return Ok(None);
        }
        // What was replaced meanwhile is measured for nothing, and is not dropped before that ends.
        let is_over = || self.is_over() || !registry.serves(deployment);
        let resources = (&*self.machinery.budget, &is_over as &dyn Fn() -> bool);
        let Some(comparison) = compare(deployment, &ways, main, resources) else {
            return Ok(None);
        };
        let (with, told) = (&comparison.with, comparison.told());
        tracing::info!(
            model = facts.model,
            version = facts.version,
            with,
            measured = told,
            took_ms = milliseconds(started.elapsed()),
            "engines measured"
        );
        let Some(running) = better(deployment, &comparison) else {
            return Ok(None);
        };
        let held = match promises.remove(running.engine) {
            Some((promise, bytes)) => Arc::new(promise.keep(bytes)),
            None => running.held,
        };
        Ok(Some(Running { held, ..running }))
    }

    /// Every way to run the model: with each engine that answers alike, in each split of the threads. The engine that
    /// serves now comes first. The others are loaded beside it, as far as the memory goes.
    fn ways(&self, deployment: &Deployment) -> Result<(Vec<Way>, Promises)> {
        let facts = &deployment.facts;
        let threads = self.machinery.budget.threads();
        let own = (deployment.loaded.engine, deployment.model().clone());
        let mut models: Vec<(&'static str, Arc<dyn Model>)> = vec![own];
        let mut others = facts.verdict.like(deployment.loaded.engine);
        if facts.is_changed() {
            // Other files than those that were examined.
            others.clear();
        }
        let fixed = facts.knobs.split(threads);
        let mut promises = Promises::new();
        if others.is_empty() {
            return Ok((split(threads, fixed, models), promises));
        }
        let source = ModelSource::read(&facts.files.path)?;
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
            let other = Other {
                engine: engine.clone(),
                source: source.clone(),
                promise,
            };
            match other.load(facts, &self.machinery) {
                // What is beside the ONNX file is read while it is loaded.
                Ok((model, promise))
                    if model.signature() == deployment.signature() && !facts.is_changed() =>
                {
                    models.push((engine.name(), model));
                    promises.insert(engine.name(), (promise, held));
                }
                Ok(_) => tracing::info!(
                    model = facts.model,
                    engine = name,
                    "not measured: its files have changed"
                ),
                Err(error) => {
                    let (engine, reason) = (engine.name(), error.chain());
                    tracing::info!(model = facts.model, engine, reason, "not measured");
                }
            }
        }
        Ok((split(threads, fixed, models), promises))
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

/// Another way than the one that serves, if it is so much better that it is worth the change.
fn better(deployment: &Deployment, comparison: &Comparison) -> Option<Running> {
    let best = comparison.best()?;
    let now = comparison.timed.iter().find(|timed| {
        timed.way.engine == deployment.loaded.engine && timed.way.split == deployment.split
    });
    let is_worth_it = now.is_none_or(|now| now.seconds / best.seconds > WORTH_IT);
    let aim = match deployment.facts.rules.aim {
        Aim::Throughput => "throughput",
        Aim::Latency => "latency",
    };
    is_worth_it.then(|| Running {
        engine: best.way.engine,
        model: best.way.model.clone(),
        why: format!(
            "measured the best for {aim} with {}: {}",
            comparison.with,
            comparison.told()
        ),
        split: best.way.split,
        batches: best.batches.clone(),
        held: deployment.held().clone(),
        // Measuring is no part of loading.
        took: deployment.loaded.took,
    })
}
