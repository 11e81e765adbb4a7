//! One model's plans: the one for every shape, those for concrete shapes, and which of them runs a request.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;

use super::cache::{Key, Made, PlanCache};
use super::graph::{Graph, Plan};
use super::ladder::{Foothold, Frozen, MOST_FROZEN_ELEMENTS};
use crate::allocator;
use crate::engine::STACK_BYTES;
use crate::error::{Error, Result};
use crate::tensor::signature::{CheckedInputs, Signature};

/// How many shapes that had no plan of their own are remembered: the second request of a shape makes one.
const MOST_SHAPES_SEEN: usize = 16;

/// A model's plans, made and to be made.
pub struct Plans {
    /// The model's own number in the cache.
    number: u64,
    signature: Arc<Signature>,
    any: Option<Arc<Plan>>,
    /// What plans for concrete shapes are made from; none where the plan for any shape is as good.
    graph: Option<Graph>,
    levels: Vec<Frozen>,
    level: usize,
    cache: Arc<PlanCache>,
    shapes_seen: Mutex<VecDeque<Key>>,
    /// Whether a thread is making a plan in the background; one at a time.
    making: AtomicBool,
}

impl Plans {
    /// The plans of the model with this number, as the ladder found them.
    pub fn new(number: u64, graph: Graph, foothold: Foothold, cache: Arc<PlanCache>) -> Plans {
        let Foothold {
            any,
            specialise,
            levels,
            level,
            ..
        } = foothold;
        Plans {
            number,
            signature: graph.signature().clone(),
            any: any.map(Arc::new),
            // Where one plan serves all, the graph's weights need not be kept beside the plan's.
            graph: specialise.then_some(graph),
            levels,
            level,
            cache,
            shapes_seen: Mutex::default(),
            making: AtomicBool::new(false),
        }
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Keeps a plan that was made for these inputs.
    pub fn keep(&self, inputs: &CheckedInputs, plan: Plan) {
        let bytes = self.graph.as_ref().map_or(0, Graph::weight_bytes);
        let key = self.key(self.level, inputs);
        // It is new: nobody has asked for this model's plans yet.
        let _ = self.cache.get_or_make(key, bytes, || Ok(Arc::new(plan)));
    }

    /// Whether these inputs run at once, without a plan being made for them first.
    pub fn is_prepared(&self, inputs: &CheckedInputs) -> bool {
        self.any.is_some() || self.cache.has(&self.key(self.level, inputs))
    }

    /// The plan that runs these inputs now.
    pub fn plan_for(self: &Arc<Plans>, inputs: &CheckedInputs) -> Result<Arc<Plan>> {
        let Some(any) = &self.any else {
            return self.made_for(inputs);
        };
        if self.graph.is_none() {
            return Ok(any.clone());
        }
        let key = self.key(0, inputs);
        match self.cache.get(&key) {
            Some(Ok(plan)) => Ok(plan),
            Some(Err(_)) => Ok(any.clone()),
            None => {
                if self.is_in_use(&key) {
                    self.make_in_background(inputs);
                }
                Ok(any.clone())
            }
        }
    }

    /// The plan for these inputs, made now if need be.
    fn made_for(&self, inputs: &CheckedInputs) -> Result<Arc<Plan>> {
        let mut first_reason = None;
        let fits = |level: &usize| {
            let frozen = inputs
                .tensors()
                .iter()
                .zip(&self.levels[*level])
                .filter(|(_, frozen)| **frozen);
            let mut elements = frozen.map(|(tensor, _)| tensor.shape().elements());
            elements.all(|elements| elements <= MOST_FROZEN_ELEMENTS)
        };
        for level in (self.level..self.levels.len()).filter(fits) {
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

    /// Makes the plan for these shapes beside the requests, which meanwhile run on the plan for every shape.
    fn make_in_background(self: &Arc<Plans>, inputs: &CheckedInputs) {
        if self.making.swap(true, Ordering::AcqRel) {
            return;
        }
        let (plans, inputs) = (self.clone(), inputs.clone());
        let make = move || {
            if let Err(reason) = plans.make(0, &inputs) {
                tracing::debug!(
                    reason,
                    "no plan for a concrete shape; the one for every shape serves it"
                );
            }
            plans.making.store(false, Ordering::Release);
            // It may have been the last to hold a model that was unloaded meanwhile.
            drop((plans, inputs));
            allocator::give_back();
        };
        let thread = thread::Builder::new()
            .name("plan".to_owned())
            .stack_size(STACK_BYTES);
        if thread.spawn(make).is_err() {
            self.making.store(false, Ordering::Release);
        }
    }

    fn make(&self, level: usize, inputs: &CheckedInputs) -> Made {
        let Some(graph) = &self.graph else {
            return Err("the model has no plans for concrete shapes".to_owned());
        };
        let make = || {
            graph
                .plan_for(inputs.tensors(), &self.levels[level])
                .map(Arc::new)
        };
        self.cache
            .get_or_make(self.key(level, inputs), graph.weight_bytes(), make)
    }

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
