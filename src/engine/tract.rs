//! The tract engine: pure Rust, always there.
//!
//! `graph` reads a model and makes plans from it, `ladder` finds which plans run, `plans` chooses among a model's,
//! `cache` keeps those that were made for concrete shapes, `run` runs one. `ml` and `ops` are operators of our own.

mod cache;
mod compare;
mod convert;
mod graph;
mod known_wrong;
mod ladder;
mod message;
mod ml;
mod ops;
mod plans;
mod proto;
mod run;
mod wide;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::cache::{Bounds, PlanCache};
use self::graph::Graph;
use self::plans::Plans;
use super::{Attempt, Engine, Model, ModelSource, Session};
use crate::error::Result;
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
        let mut foothold = ladder::climb(&graph, tried)?;
        let (sample, made) = (foothold.sample, foothold.made.take());
        let number = self.loaded.fetch_add(1, Ordering::Relaxed);
        let plans = Arc::new(Plans::new(number, graph, foothold, self.cache.clone()));
        if let (Some(sample), Some(plan)) = (sample, made) {
            // The first request of that shape finds its plan made.
            plans.keep(&sample.inputs(plans.signature())?, plan);
        }
        Ok(Arc::new(TractModel { plans, sample }))
    }
}

struct TractModel {
    plans: Arc<Plans>,
    sample: Option<Sample>,
}

impl Model for TractModel {
    fn signature(&self) -> &Signature {
        self.plans.signature()
    }

    fn session(&self, _threads: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(TractSession(self.plans.clone())))
    }

    fn sample(&self) -> Option<Sample> {
        self.sample
    }

    fn is_prepared(&self, inputs: &CheckedInputs) -> bool {
        self.plans.is_prepared(inputs)
    }
}

struct TractSession(Arc<Plans>);

impl Session for TractSession {
    fn run(&mut self, inputs: &CheckedInputs) -> Result<Vec<Tensor>> {
        let plan = self.0.plan_for(inputs)?;
        run::run(&plan, self.0.signature(), inputs)
    }

    fn computes_here(&self) -> bool {
        true
    }
}
