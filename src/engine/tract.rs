//! The tract engine: pure Rust, always there.
//!
//! `graph` reads a model and makes plans from it, `ladder` finds which plans run, `cache` keeps those that were made
//! for concrete shapes, `run` runs one. `ml` and `ops` are operators of our own.

mod cache;
mod compare;
mod convert;
mod graph;
mod known_wrong;
mod ladder;
mod message;
mod ml;
mod ops;
mod proto;
mod run;
mod wide;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;

use self::cache::{Bounds, Key, Made, PlanCache};
use self::graph::{Graph, Plan};
use self::ladder::{Foothold, MOST_FROZEN_ELEMENTS};
use super::{Attempt, Engine, Model, ModelSource, STACK_BYTES, Session};
use crate::error::{Error, Result};
use crate::telemetry::cgroup::Cgroup;
use crate::telemetry::metrics::PlanCacheMetrics;
use crate::tensor::sample::Sample;
use crate::tensor::signature::{CheckedInputs, Signature};
use crate::tensor::value::Tensor;

/// The most plans that are kept for concrete shapes, of all models together.
const MOST_PLANS: usize = 64;
/// Their share of the memory that the process may use.
const SHARE_OF_MEMORY: u64 = 4;
/// The most bytes of them where there is no limit on the process.
const PLAN_BYTES: usize = 1 << 30;
/// How long a shape that no plan could be made for is not tried again.
const FAILURES_KEPT_FOR: Duration = Duration::from_secs(60);
/// How many shapes that had no plan of their own are remembered: the second request of a shape makes one.
const MOST_SHAPES_SEEN: usize = 16;

/// Loads models with tract-onnx.
#[derive(Clone)]
pub struct TractEngine {
    cache: Arc<PlanCache>,
    loaded: Arc<AtomicU64>,
}

impl TractEngine {
    /// An engine that counts its plans in `metrics`.
    pub fn new(metrics: PlanCacheMetrics) -> TractEngine {
        let limit = Cgroup::of_process().and_then(|cgroup| cgroup.memory_limit_bytes());
        let bytes = limit
            .and_then(|limit| usize::try_from(limit / SHARE_OF_MEMORY).ok())
            .unwrap_or(PLAN_BYTES);
        let bounds = Bounds {
            plans: MOST_PLANS,
            bytes,
            failures: FAILURES_KEPT_FOR,
        };
        TractEngine {
            cache: Arc::new(PlanCache::new(bounds, metrics)),
            loaded: Arc::default(),
        }
    }
}

impl Default for TractEngine {
    fn default() -> Self {
        TractEngine::new(PlanCacheMetrics::default())
    }
}

impl Engine for TractEngine {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn load(&self, source: &ModelSource, tried: &mut Vec<Attempt>) -> Result<Arc<dyn Model>> {
        let graph = Graph::read(source)?;
        let Foothold {
            any,
            specialise,
            levels,
            level,
            sample,
        } = ladder::climb(&graph, tried)?;
        let plans = Plans {
            number: self.loaded.fetch_add(1, Ordering::Relaxed),
            signature: graph.signature().clone(),
            any: any.map(Arc::new),
            // Where one plan serves all, the graph's weights need not be kept beside the plan's.
            graph: specialise.then_some(graph),
            levels,
            level,
            cache: self.cache.clone(),
            shapes_seen: Mutex::default(),
            making: AtomicBool::new(false),
        };
        let model = Arc::new_cyclic(|this| TractModel {
            plans,
            sample,
            this: this.clone(),
        });
        if let (Some(sample), None) = (sample, &model.plans.any) {
            // The first request of that shape finds its plan made.
            let _ = model
                .plans
                .made_for(&sample.inputs(&model.plans.signature)?);
        }
        Ok(model)
    }
}

struct TractModel {
    plans: Plans,
    sample: Option<Sample>,
    this: Weak<TractModel>,
}

/// A model's plans, made and to be made.
struct Plans {
    /// The model's own number in the cache.
    number: u64,
    signature: Arc<Signature>,
    any: Option<Arc<Plan>>,
    /// What plans for concrete shapes are made from; none where the plan for any shape is as good.
    graph: Option<Graph>,
    levels: Vec<ladder::Frozen>,
    level: usize,
    cache: Arc<PlanCache>,
    shapes_seen: Mutex<VecDeque<Key>>,
    /// Whether a thread is making a plan in the background; one at a time.
    making: AtomicBool,
}

impl Plans {
    fn key(&self, level: usize, inputs: &CheckedInputs) -> Key {
        let tensors = inputs.tensors().iter();
        let frozen = tensors
            .clone()
            .enumerate()
            .filter(|(place, _)| self.levels[level][*place]);
        Key {
            model: self.number,
            shapes: tensors.map(|tensor| tensor.shape().clone()).collect(),
            // Copies: a slice would keep the whole request.
            frozen: frozen
                .map(|(place, tensor)| (place, Bytes::copy_from_slice(tensor.data())))
                .collect(),
        }
    }

    /// The plan for these inputs, made now if need be.
    fn made_for(&self, inputs: &CheckedInputs) -> Result<Arc<Plan>> {
        let mut first_reason = None;
        let too_large = |level: &ladder::Frozen| {
            let frozen = inputs
                .tensors()
                .iter()
                .zip(level)
                .filter(|(_, frozen)| **frozen);
            frozen
                .into_iter()
                .any(|(tensor, _)| tensor.shape().elements() > MOST_FROZEN_ELEMENTS)
        };
        for level in
            (self.level..self.levels.len()).filter(|level| !too_large(&self.levels[*level]))
        {
            match self.make(level, inputs) {
                Ok(plan) => return Ok(plan),
                Err(reason) => first_reason.get_or_insert(reason),
            };
        }
        let reason =
            first_reason.unwrap_or_else(|| "an input is too large to be a constant".to_owned());
        Err(Error::unimplemented(format!(
            "tract cannot run the model with these inputs: {reason}"
        )))
    }

    fn make(&self, level: usize, inputs: &CheckedInputs) -> Made {
        let Some(graph) = &self.graph else {
            return Err("the model has no plans for concrete shapes".to_owned());
        };
        let make = || {
            let plan = graph.plan_for(inputs.tensors(), &self.levels[level]);
            plan.map(Arc::new)
        };
        self.cache
            .get_or_make(self.key(level, inputs), graph.weight_bytes(), make)
    }

    /// Whether this shape was asked for before without having a plan of its own; remembers that it was.
    fn is_in_use(&self, key: &Key) -> bool {
        let mut seen = self
            .shapes_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = seen.contains(key);
        if !known {
            seen.truncate(MOST_SHAPES_SEEN - 1);
            seen.push_front(key.clone());
        }
        known
    }
}

impl Drop for Plans {
    fn drop(&mut self) {
        self.cache.forget(self.number);
    }
}

impl TractModel {
    /// The plan that runs these inputs now.
    fn plan_for(&self, inputs: &CheckedInputs) -> Result<Arc<Plan>> {
        let plans = &self.plans;
        let Some(any) = &plans.any else {
            return plans.made_for(inputs);
        };
        if plans.graph.is_none() {
            return Ok(any.clone());
        }
        let key = plans.key(0, inputs);
        match plans.cache.get(&key) {
            Some(Ok(plan)) => Ok(plan),
            Some(Err(_)) => Ok(any.clone()),
            None => {
                if plans.is_in_use(&key) {
                    self.make_in_background(inputs);
                }
                Ok(any.clone())
            }
        }
    }

    /// Makes the plan for these shapes beside the requests, which meanwhile run on the plan for every shape.
    fn make_in_background(&self, inputs: &CheckedInputs) {
        let Some(model) = self.this.upgrade() else {
            return;
        };
        if self.plans.making.swap(true, Ordering::AcqRel) {
            return;
        }
        let inputs = inputs.clone();
        let make = move || {
            let made = catch_unwind(AssertUnwindSafe(|| model.plans.make(0, &inputs)));
            if !matches!(made, Ok(Ok(_))) {
                tracing::debug!(
                    "no plan could be made for a concrete shape; the one for every shape serves it"
                );
            }
            model.plans.making.store(false, Ordering::Release);
        };
        if std::thread::Builder::new()
            .name("plan".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(make)
            .is_err()
        {
            self.plans.making.store(false, Ordering::Release);
        }
    }
}

impl Model for TractModel {
    fn signature(&self) -> &Signature {
        &self.plans.signature
    }

    fn session(&self) -> Result<Box<dyn Session>> {
        let model = self.this.upgrade();
        let model = model.ok_or_else(|| Error::internal("the model is being dropped"))?;
        Ok(Box::new(TractSession(model)))
    }

    fn sample(&self) -> Option<Sample> {
        self.sample
    }

    fn is_prepared(&self, inputs: &CheckedInputs) -> bool {
        let Plans {
            any, cache, level, ..
        } = &self.plans;
        any.is_some() || cache.has(&self.plans.key(*level, inputs))
    }
}

struct TractSession(Arc<TractModel>);

impl Session for TractSession {
    fn run(&mut self, inputs: &CheckedInputs) -> Result<Vec<Tensor>> {
        let plan = self.0.plan_for(inputs)?;
        run::run(&plan, &self.0.plans.signature, inputs)
    }
}
