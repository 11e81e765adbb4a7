//! Runs batches on an engine and answers each request of them.
//!
//! A batch that fails is run again in halves, down to single requests, so that what is wrong with one of them is told to
//! that one alone. What a joined run gives is believed only if every output has as many rows as went in; a class for which
//! that does not hold, in whatever run, is never joined again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answers::Answers;
use super::job::{Job, Reply, size};
use super::{Completed, Split, Timing};
use crate::engine::{Model, Session};
use crate::error::{Result, guarded};
use crate::serving::batcher::{Queued, is_useful};
use crate::serving::cost::Costs;
use crate::serving::cost::stopwatch::{Stopwatch, Times};
use crate::serving::statistics::Statistics;
use crate::telemetry::metrics::{DropReason, ModelMetrics};
use crate::tensor::batch::{self, ShapeClass};
use crate::tensor::signature::CheckedInputs;
use crate::tensor::value::Tensor;

/// So many classes are known that must not be joined; were there more, nothing would be joined any more.
const MOST_KEPT_APART: usize = 64;

/// Whether the model is prepared for a run's inputs, or the run has to begin with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preparation {
    Done,
    Due,
}

/// How closely a run is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// A short run that is prepared for: to ask for a thread's CPU time would take longer.
    Glance,
    Close(Preparation),
}

/// What came of a run of the engine.
struct Run {
    result: Result<Vec<Tensor>>,
    times: Times,
    /// Whether it tells how long such a run takes: one that failed, or prepared something first, does not.
    is_telling: bool,
}

/// What came of running a batch at once.
enum Joined {
    Answered,
    /// It must be run in two.
    InParts(Vec<Job>, Vec<Job>),
    /// Each must be run by itself.
    Apart(Vec<Job>),
}

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
    pub answers: Answers,
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
    /// Whether it was not among them before.
    fn add(&self, class: &ShapeClass) -> bool {
        let mut classes = self.classes();
        let is_new = classes.len() < MOST_KEPT_APART && !classes.contains(class);
        if is_new {
            classes.push(class.clone());
        }
        self.is_any.store(true, Ordering::Relaxed);
        is_new
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

    /// Runs one request where it is, whose inputs the model is prepared for. Whoever calls holds a permit.
    pub fn run_prepared(&self, inputs: &CheckedInputs) -> Result<Completed> {
        let passed = |queue, compute| self.metrics.passed(queue, compute);
        self.run_one(inputs, Look::Glance, Duration::ZERO, passed)
    }

    /// Runs one request, or a piece of one, which is told how long it took, whatever came of it.
    fn run_one(
        &self,
        inputs: &CheckedInputs,
        look: Look,
        queue: Duration,
        passed: impl FnOnce(Duration, Duration),
    ) -> Result<Completed> {
        let Run {
            result,
            times,
            is_telling,
        } = self.execute(inputs, look);
        let compute = times.took;
        self.metrics.ran(inputs.rows());
        passed(queue, compute);
        let outputs = result?;
        self.answers.learn(size(inputs), &outputs);
        if is_telling {
            let class = || self.class(inputs).0;
            self.costs.learn(class, size(inputs), times.cost);
        }
        let has_its_rows = |output| batch::rows(output) == Some(inputs.rows());
        if self.joins && inputs.is_in_rows() && !outputs.iter().all(has_its_rows) {
            // No made-up request showed it: joined, its rows could not be told from those of others.
            self.keep_apart(&ShapeClass::of(inputs));
        }
        Ok(Completed {
            outputs,
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

    fn run_since(&self, mut batch: Vec<Job>, started: Instant) {
        // Runs before this one took their time.
        batch.retain(|job| self.is_wanted(job));
        let is_apart = |job: &Job| self.apart.has(&job.class);
        if batch.len() < 2 || batch.first().is_some_and(is_apart) {
            return self.run_apart(batch, started);
        }
        match self.run_joined(batch, started) {
            Joined::Answered => {}
            Joined::InParts(first, second) => {
                self.run_since(first, started);
                self.run_since(second, started);
            }
            Joined::Apart(batch) => self.run_apart(batch, started),
        }
    }

    /// Whether somebody still waits for its answer; else it is counted as dropped.
    fn is_wanted(&self, job: &Job) -> bool {
        let now = Instant::now();
        let is_wanted = is_useful(job, now);
        if !is_wanted {
            let reason = match job.deadline <= now {
                true => DropReason::Expired,
                false => DropReason::Abandoned,
            };
            self.metrics.dropped(reason, 1);
        }
        is_wanted
    }

    fn run_apart(&self, batch: Vec<Job>, started: Instant) {
        for job in batch {
            if !self.is_wanted(&job) {
                continue;
            }
            let _in_span = job.span.enter();
            let queue = started - job.queued_at;
            let look = Look::Close(self.preparation(&job.inputs));
            let result = self.run_one(&job.inputs, look, queue, |queue, compute| {
                self.passed(&job, queue, compute);
            });
            drop(_in_span);
            job.answer(result);
        }
    }

    /// Runs all of them at once; gives them back if that does not do.
    fn run_joined(&self, mut batch: Vec<Job>, started: Instant) -> Joined {
        let joining = Instant::now();
        let inputs: Vec<_> = batch.iter().map(|job| &job.inputs).collect();
        let Ok(inputs) = CheckedInputs::concat(&inputs) else {
            return Joined::Apart(batch);
        };
        let joining = joining.elapsed();
        let counts: Vec<_> = batch.iter().map(|job| job.size().rows).collect();
        let preparation = self.preparation(&inputs);
        if !inputs.rows().is_power_of_two() && preparation == Preparation::Due {
            // Preparing every number of rows would cost more than a run or two more: powers of two are enough.
            return match power_of_two(&counts) {
                Some(at) => {
                    let rest = batch.split_off(at);
                    Joined::InParts(batch, rest)
                }
                None => Joined::Apart(batch),
            };
        }
        let Run {
            result,
            times,
            is_telling,
        } = self.execute(&inputs, Look::Close(preparation));
        let compute = times.took;
        let joined = match result {
            Ok(outputs) => outputs,
            Err(error) => {
                let (requests, rows, reason) = (batch.len(), inputs.rows(), error.chain());
                tracing::info!(
                    requests,
                    rows,
                    reason,
                    "a joined run failed: it is run again in halves"
                );
                let rest = batch.split_off(batch.len() / 2);
                return Joined::InParts(batch, rest);
            }
        };
        let parting = Instant::now();
        let Some(outputs) = apart(&joined, &counts) else {
            self.keep_apart(&batch[0].class);
            return Joined::Apart(batch);
        };
        if is_telling {
            // That is work which rows that run apart do not make.
            let cost = joining + times.cost + parting.elapsed();
            self.costs
                .learn_joined(&batch[0].class, size(&inputs), cost);
        }
        self.metrics.ran(inputs.rows());
        self.answers.learn(size(&inputs), &joined);
        for (job, outputs) in batch.into_iter().zip(outputs) {
            let queue = started - job.queued_at;
            self.passed(&job, queue, compute);
            let completed = Completed {
                outputs,
                rows: job.inputs.rows(),
                batch_rows: inputs.rows(),
                timing: Timing { queue, compute },
            };
            job.answer(Ok(completed));
        }
        Joined::Answered
    }

    /// Counts how long a request took; of one in pieces that is known once they are joined.
    fn passed(&self, job: &Job, queue: Duration, compute: Duration) {
        if let Reply::Whole(_) = job.reply {
            self.metrics.passed(queue, compute);
        }
    }

    /// Lets requests of this class share no run any more.
    pub fn keep_apart(&self, class: &ShapeClass) {
        if self.apart.add(class) {
            tracing::warn!(
                shape = %class,
                "an output has not as many rows as the inputs of its run: such requests run apart from now on"
            );
        }
    }

    fn preparation(&self, inputs: &CheckedInputs) -> Preparation {
        match self.model.is_prepared(inputs) {
            true => Preparation::Done,
            false => Preparation::Due,
        }
    }

    /// Runs the engine.
    fn execute(&self, inputs: &CheckedInputs, look: Look) -> Run {
        let mut watch = Stopwatch::start(false);
        let result = guarded("while running", || {
            self.run_session(inputs, look, &mut watch)
        });
        let times = watch.stop();
        if result.is_ok() {
            self.statistics.ran(inputs.rows(), times.took);
        }
        Run {
            is_telling: look != Look::Close(Preparation::Due) && result.is_ok(),
            result,
            times,
        }
    }

    /// A session that panicked cannot be trusted and is not given back; the next run makes a fresh one.
    fn run_session(
        &self,
        inputs: &CheckedInputs,
        look: Look,
        watch: &mut Stopwatch,
    ) -> Result<Vec<Tensor>> {
        let idle = self.sessions().pop();
        let mut session = match idle {
            Some(session) => session,
            None => self.model.session(self.split.threads)?,
        };
        if look != Look::Glance && session.computes_here() {
            *watch = Stopwatch::start(true);
        }
        let result = session.run(inputs);
        self.give_back(session);
        result
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
