//! One model's way through the machine: a bounded queue and the threads that run it.
//!
//! A request is queued or refused at once, never waits for a place, and its answer comes back through a oneshot.
//! One exception, by measurement: where a run costs less than the hop to another thread, and nobody waits, it runs
//! where the request is. Either way it needs a permit of the budget, is counted alike, and stands behind
//! `catch_unwind`: a panic costs its own request and nothing else.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::Span;

use super::batcher::{Batcher, Queued, Refused, is_useful};
use super::budget::ComputeBudget;
use super::pace::{Pace, Size};
use super::statistics::Statistics;
use crate::engine::{Model, STACK_BYTES, Session};
use crate::error::{Error, ErrorKind, Result, guarded};
use crate::telemetry::metrics::ModelMetrics;
use crate::tensor::signature::CheckedInputs;
use crate::tensor::value::Tensor;

/// The soonest and the latest that a refused client is told to try again.
const RETRY_AFTER_SECONDS: (f64, f64) = (1.0, 30.0);

/// How often a short request looks for its turn on an async thread before it queues.
const TRIES_HERE: usize = 4;

/// How the threads are shared out: so many workers, each of which runs on so many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    pub workers: usize,
    pub threads: usize,
}

/// A model's queue and workers. Dropping it answers what is queued and joins the threads.
pub struct Lane {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

/// What a lane is made of.
pub struct LaneConfig {
    /// For the threads' names.
    pub name: String,
    pub model: Arc<dyn Model>,
    pub split: Split,
    pub queue_rows: usize,
    pub metrics: ModelMetrics,
    pub statistics: Arc<Statistics>,
    pub budget: Arc<ComputeBudget>,
}

/// The outputs of a request, in the signature's order, and how long it took.
#[derive(Debug)]
pub struct Completed {
    pub outputs: Vec<Tensor>,
    pub rows: usize,
    pub timing: Timing,
}

/// The phases of a request at a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    pub queue: Duration,
    pub compute: Duration,
}

struct Job {
    inputs: CheckedInputs,
    deadline: Instant,
    queued_at: Instant,
    span: Span,
    reply: oneshot::Sender<Result<Completed>>,
}

impl Queued for Job {
    fn rows(&self) -> usize {
        self.inputs.places()
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    model: Arc<dyn Model>,
    split: Split,
    queue_rows: usize,
    metrics: ModelMetrics,
    statistics: Arc<Statistics>,
    budget: Arc<ComputeBudget>,
    /// Sessions that nobody uses now. Permits bound how many there ever are.
    sessions: Mutex<Vec<Box<dyn Session>>>,
    pace: Pace,
}

/// What came of running a request where it is.
enum Here {
    Done(Result<Completed>),
    /// It may run here, once another run has ended.
    Busy,
    /// It has to queue.
    Never,
}

struct Queue {
    batcher: Batcher<Job>,
    closed: bool,
}

impl Lane {
    /// Starts the workers.
    pub fn start(config: LaneConfig) -> Result<Lane> {
        let LaneConfig {
            name,
            model,
            split,
            queue_rows,
            metrics,
            statistics,
            budget,
        } = config;
        metrics.set_queue_capacity(queue_rows);
        metrics.set_queue_rows(0);
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                batcher: Batcher::new(queue_rows),
                closed: false,
            }),
            wake: Condvar::new(),
            model,
            split,
            queue_rows,
            metrics,
            statistics,
            budget,
            sessions: Mutex::default(),
            pace: Pace::default(),
        });
        let mut lane = Lane {
            shared: shared.clone(),
            workers: Vec::with_capacity(split.workers),
        };
        for _ in 0..split.workers {
            shared.give_back(shared.model.session(split.threads)?);
            let shared = shared.clone();
            let worker = thread::Builder::new()
                .name(name.clone())
                .stack_size(STACK_BYTES)
                .spawn(move || shared.work());
            let worker = worker.map_err(|error| {
                Error::internal("a worker thread did not start").with_source(error)
            })?;
            lane.workers.push(worker);
        }
        Ok(lane)
    }

    /// What it runs.
    pub fn model(&self) -> &Arc<dyn Model> {
        &self.shared.model
    }

    /// Queues a request and waits for its outputs, until `deadline` at most. Dropping the future abandons the request.
    pub async fn run(&self, inputs: CheckedInputs, deadline: Instant) -> Result<Completed> {
        if Instant::now() >= deadline {
            return Err(expired());
        }
        for _ in 0..TRIES_HERE {
            match self.shared.run_here(&inputs) {
                Here::Done(result) => return result,
                // Another short run is about to end; others get their turn meanwhile.
                Here::Busy => tokio::task::yield_now().await,
                Here::Never => break,
            }
        }
        let (reply, answer) = oneshot::channel();
        let job = Job {
            inputs,
            deadline,
            queued_at: Instant::now(),
            span: Span::current(),
            reply,
        };
        self.shared.push(job)?;
        match tokio::time::timeout_at(deadline.into(), answer).await {
            Ok(Ok(result)) => result,
            // A worker that found the job expired dropped it, and may be quicker than this task's timer.
            Ok(Err(_)) if Instant::now() >= deadline => Err(expired()),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(expired()),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        let left: Vec<_> = queue.batcher.drain().collect();
        self.shared.metrics.set_queue_rows(0);
        drop(queue);
        self.shared.wake.notify_all();
        for job in left {
            // The receiver may have gone; then nobody needs the answer.
            let _ = job.reply.send(Err(gone()));
        }
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a worker thread panicked outside of an engine");
            }
        }
    }
}

fn gone() -> Error {
    Error::unavailable("the model is being unloaded; try again")
        .with_retry_after(Duration::from_secs(1))
}

fn expired() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "the deadline passed before the model answered",
    )
}

fn size(inputs: &CheckedInputs) -> Size {
    let bytes = inputs
        .tensors()
        .iter()
        .map(|tensor| tensor.data().len())
        .sum();
    Size {
        rows: inputs.places(),
        bytes,
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<()> {
        let rows = job.rows();
        let mut queue = self.lock();
        if queue.closed {
            return Err(gone());
        }
        let pushed = queue.batcher.push(job, Instant::now());
        let waiting = queue.batcher.rows();
        self.metrics.set_queue_rows(waiting);
        drop(queue);
        match pushed {
            Ok(()) => {
                self.wake.notify_one();
                Ok(())
            }
            Err(Refused::TooLarge) => Err(Error::too_large(format!(
                "the request has {rows} rows and the model's queue holds at most {}; send fewer at once",
                self.queue_rows
            ))),
            Err(Refused::Full) => Err(Error::new(
                ErrorKind::QueueFull,
                format!(
                    "the model's queue is full: {waiting} of {} rows are waiting; try again later",
                    self.queue_rows
                ),
            )
            .with_retry_after(self.retry_after(waiting))),
        }
    }

    /// How long the workers need for what is waiting, by the rate that was measured.
    fn retry_after(&self, waiting_rows: usize) -> Duration {
        let seconds = self.pace.expected(waiting_rows).as_secs_f64() / self.split.workers as f64;
        let (soonest, latest) = RETRY_AFTER_SECONDS;
        Duration::from_secs_f64(seconds.clamp(soonest, latest))
    }

    /// Runs a short request on the calling thread, unless others wait or the machine is busy.
    fn run_here(&self, inputs: &CheckedInputs) -> Here {
        let size = size(inputs);
        if size.rows > self.queue_rows
            || self.split.threads > 1
            || !self.pace.is_short(size)
            || !self.model.is_prepared(inputs)
            || self.lock().batcher.rows() > 0
        {
            return Here::Never;
        }
        match self.budget.try_acquire_async() {
            Some(_permit) => Here::Done(self.run(inputs, Duration::ZERO)),
            None => Here::Busy,
        }
    }

    /// A worker's life: take a job, run it, answer, until the lane is closed.
    fn work(&self) {
        while let Some(job) = self.next_job() {
            let _permit = self.budget.acquire(self.split.threads);
            let started = Instant::now();
            if !is_useful(&job, started) {
                continue;
            }
            let Job {
                inputs,
                queued_at,
                span,
                reply,
                ..
            } = job;
            let _in_span = span.entered();
            let result = self.run(&inputs, started - queued_at);
            // The receiver may have gone; then nobody needs the answer.
            let _ = reply.send(result);
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            let job = queue.batcher.take_ripe(Instant::now());
            self.metrics.set_queue_rows(queue.batcher.rows());
            if job.is_some() {
                return job;
            }
            if queue.closed {
                return None;
            }
            queue = self
                .wake
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs the engine and learns from it. Whoever calls holds a permit.
    fn run(&self, inputs: &CheckedInputs, queue: Duration) -> Result<Completed> {
        let started = Instant::now();
        let result = self.run_guarded(inputs);
        let timing = Timing {
            queue,
            compute: started.elapsed(),
        };
        self.metrics
            .ran(inputs.rows(), timing.queue, timing.compute);
        // A run that failed tells nothing of how long one takes.
        result.map(|outputs| {
            self.pace.learn(timing.compute, size(inputs));
            self.statistics.ran(inputs.rows(), timing.compute);
            Completed {
                outputs,
                rows: inputs.rows(),
                timing,
            }
        })
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

    fn give_back(&self, session: Box<dyn Session>) {
        self.sessions().push(session);
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Box<dyn Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
