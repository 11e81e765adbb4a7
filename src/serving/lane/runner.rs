//! Runs batches on an engine and answers each request of them.
//!
//! A batch that fails as a whole is run again one request at a time, so that what is wrong with one of them is told to
//! that one alone. What a joined run gives is believed only if every output has as many rows as went in; a class for which
//! that does not hold is never joined again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::job::{Job, Reply};
use super::{Completed, Split, Timing};
use crate::engine::{Model, Session};
use crate::error::{Result, guarded};
use crate::serving::batcher::{Queued, is_useful};
use crate::serving::cost::{Costs, Size};
use crate::serving::statistics::Statistics;
use crate::telemetry::metrics::ModelMetrics;
use crate::tensor::batch::{self, ShapeClass};
use crate::tensor::signature::CheckedInputs;
use crate::tensor::value::Tensor;

/// So many classes are known that must not be joined; were there more, nothing would be joined any more.
const MOST_KEPT_APART: usize = 64;

/// A model, and what it takes to run it.
pub struct Runner {
    pub model: Arc<dyn Model>,
    pub split: Split,
    pub metrics: ModelMetrics,
    pub statistics: Arc<Statistics>,
    pub costs: Arc<Costs>,
    /// Whether it is proven that requests may be joined.
    pub joins: bool,
    pub apart: Apart,
    /// Sessions that nobody uses now. Permits bound how many there ever are.
    pub sessions: Mutex<Vec<Box<dyn Session>>>,
}

/// The classes that were seen not to join, whatever was proven of others.
#[derive(Default)]
pub struct Apart {
    is_any: AtomicBool,
    classes: Mutex<Vec<ShapeClass>>,
}

impl Apart {
    fn add(&self, class: &ShapeClass) {
        let mut classes = self.classes();
        if classes.len() < MOST_KEPT_APART && !classes.contains(class) {
            classes.push(class.clone());
        }
        self.is_any.store(true, Ordering::Relaxed);
    }

    fn has(&self, class: &ShapeClass) -> bool {
        if !self.is_any.load(Ordering::Relaxed) {
            return false;
        }
        let classes = self.classes();
        classes.len() >= MOST_KEPT_APART || classes.contains(class)
    }

    fn classes(&self) -> MutexGuard<'_, Vec<ShapeClass>> {
        self.classes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runner {
    /// The class of these inputs, and whether they may share a run or be cut into several.
    pub fn class(&self, inputs: &CheckedInputs) -> (ShapeClass, bool) {
        if !self.joins || !inputs.is_in_rows() {
            return (ShapeClass::of_one_row(inputs), false);
        }
        let class = ShapeClass::of(inputs);
        let joins = !self.apart.has(&class);
        (class, joins)
    }

    /// Runs one request where it is. Whoever calls holds a permit.
    pub fn run(&self, inputs: &CheckedInputs) -> Result<Completed> {
        self.run_one(inputs, Duration::ZERO, |queue, compute| {
            self.metrics.passed(queue, compute)
        })
    }

    /// Runs one request, or a piece of one, which is told how long it took, whatever came of it.
    fn run_one(
        &self,
        inputs: &CheckedInputs,
        queue: Duration,
        passed: impl FnOnce(Duration, Duration),
    ) -> Result<Completed> {
        let (result, compute) = self.execute(inputs);
        self.metrics.ran(inputs.rows());
        passed(queue, compute);
        Ok(Completed {
            outputs: result?,
            rows: inputs.rows(),
            batch_rows: inputs.rows(),
            timing: Timing { queue, compute },
        })
    }

    /// Runs a batch and answers each of its requests. Whoever calls holds a permit.
    pub fn run_batch(&self, batch: Vec<Job>) {
        let started = Instant::now();
        self.run_since(batch, started);
    }

    fn run_since(&self, batch: Vec<Job>, started: Instant) {
        match batch.len() {
            0 | 1 => self.run_apart(batch, started),
            _ => {
                if let Err(batch) = self.run_joined(batch, started) {
                    self.run_apart(batch, started);
                }
            }
        }
    }

    fn run_apart(&self, batch: Vec<Job>, started: Instant) {
        for job in batch {
            // Those before it took their time.
            if !is_useful(&job, Instant::now()) {
                continue;
            }
            let _in_span = job.span.enter();
            let queue = started - job.queued_at;
            let result = self.run_one(&job.inputs, queue, |queue, compute| {
                self.passed(&job, queue, compute);
            });
            drop(_in_span);
            job.reply.send(result);
        }
    }

    /// Runs all of them at once; gives them back if that does not do.
    fn run_joined(&self, mut batch: Vec<Job>, started: Instant) -> Result<(), Vec<Job>> {
        let inputs: Vec<_> = batch.iter().map(|job| &job.inputs).collect();
        let Ok(inputs) = CheckedInputs::concat(&inputs) else {
            return Err(batch);
        };
        let counts: Vec<_> = batch.iter().map(Queued::rows).collect();
        if let Some(at) = power_of_two(&counts)
            && !self.model.is_prepared(&inputs)
        {
            // Preparing every number of rows would cost more than one run more: powers of two are enough.
            let rest = batch.split_off(at);
            self.run_since(batch, started);
            self.run_since(rest, started);
            return Ok(());
        }
        let (result, compute) = self.execute(&inputs);
        let outputs = match result {
            Ok(outputs) => outputs,
            Err(error) => {
                let (requests, rows, reason) = (batch.len(), inputs.rows(), error.chain());
                tracing::info!(
                    requests,
                    rows,
                    reason,
                    "a joined run failed: its requests run apart"
                );
                return Err(batch);
            }
        };
        let Some(outputs) = apart(&outputs, &counts) else {
            self.keep_apart(&batch[0].class);
            return Err(batch);
        };
        self.metrics.ran(inputs.rows());
        for (job, outputs) in batch.into_iter().zip(outputs) {
            let queue = started - job.queued_at;
            self.passed(&job, queue, compute);
            job.reply.send(Ok(Completed {
                outputs,
                rows: job.inputs.rows(),
                batch_rows: inputs.rows(),
                timing: Timing { queue, compute },
            }));
        }
        Ok(())
    }

    /// Counts how long a request took; of one in pieces that is known once they are joined.
    fn passed(&self, job: &Job, queue: Duration, compute: Duration) {
        if let Reply::Whole(_) = job.reply {
            self.metrics.passed(queue, compute);
        }
    }

    /// Lets requests of this class share no run any more.
    pub fn keep_apart(&self, class: &ShapeClass) {
        tracing::warn!(
            shape = %class,
            "an output has not as many rows as the inputs of its run: such requests run apart from now on"
        );
        self.apart.add(class);
    }

    /// Runs the engine and learns from it.
    fn execute(&self, inputs: &CheckedInputs) -> (Result<Vec<Tensor>>, Duration) {
        let started = Instant::now();
        let result = self.run_guarded(inputs);
        let took = started.elapsed();
        // A run that failed tells nothing of how long one takes.
        if result.is_ok() {
            let class = || self.class(inputs).0;
            self.costs.learn(class, size(inputs), took);
            self.statistics.ran(inputs.rows(), took);
        }
        (result, took)
    }

    /// A session that panicked cannot be trusted and is not given back; the next run makes a fresh one.
    fn run_guarded(&self, inputs: &CheckedInputs) -> Result<Vec<Tensor>> {
        guarded("while running", || {
            let idle = self.sessions().pop();
            let mut session = match idle {
                Some(session) => session,
                None => self.model.session(self.split.threads)?,
            };
            let result = session.run(inputs);
            self.give_back(session);
            result
        })
    }

    /// Keeps a session for the next run.
    pub fn give_back(&self, session: Box<dyn Session>) {
        self.sessions().push(session);
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Box<dyn Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// After how many of these the rows are the largest power of two below all of them, where they are that anywhere.
fn power_of_two(counts: &[usize]) -> Option<usize> {
    let all: usize = counts.iter().sum();
    let power = 1 << all.checked_ilog2()?;
    let mut rows = 0;
    let until = counts.iter().position(|count| {
        rows += count;
        rows >= power
    })?;
    (rows == power && until + 1 < counts.len()).then_some(until + 1)
}

/// How much a request asks for.
pub fn size(inputs: &CheckedInputs) -> Size {
    Size {
        rows: inputs.places(),
        bytes: inputs.bytes(),
    }
}

/// The outputs of each request of a joined run; nothing if an output's rows are not those of the inputs.
fn apart(outputs: &[Tensor], counts: &[usize]) -> Option<Vec<Vec<Tensor>>> {
    let mut requests = vec![Vec::with_capacity(outputs.len()); counts.len()];
    for output in outputs {
        let parts = batch::split(output, counts).ok()?;
        for (request, part) in requests.iter_mut().zip(parts) {
            request.push(part);
        }
    }
    Some(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_cut_where_their_rows_are_a_power_of_two() {
        assert_eq!(power_of_two(&[1; 7]), Some(4));
        assert_eq!(power_of_two(&[3, 1, 2]), Some(2));
        assert_eq!(power_of_two(&[3, 2, 2]), None);
        assert_eq!(power_of_two(&[1; 8]), None);
        assert_eq!(power_of_two(&[]), None);
    }
}
