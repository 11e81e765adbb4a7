//! One model's way through the machine: a bounded queue and the threads that run it.
//!
//! A request is queued or refused at once, never waits for a place, and its answer comes back through a oneshot.
//! Engines run on these threads alone, behind `catch_unwind`: a panic costs its own request and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::Span;

use super::batcher::{Batcher, Queued, Refused, is_useful};
use super::budget::ComputeBudget;
use crate::engine::{Model, Session};
use crate::error::{Error, ErrorKind, Result};
use crate::telemetry::metrics::ModelMetrics;
use crate::tensor::signature::CheckedInputs;
use crate::tensor::value::Tensor;

/// The soonest and the latest that a refused client is told to try again.
const RETRY_AFTER_SECONDS: (f64, f64) = (1.0, 30.0);

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
    pub queue_rows: usize,
    pub metrics: ModelMetrics,
    pub budget: Arc<ComputeBudget>,
}

/// The outputs of a request, in the signature's order, and how long it took.
#[derive(Debug)]
pub struct Completed {
    pub outputs: Vec<Tensor>,
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
        self.inputs.rows()
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
    queue_rows: usize,
    metrics: ModelMetrics,
    budget: Arc<ComputeBudget>,
    /// A moving average of the compute time of one row, in nanoseconds; 0 before the first run.
    row_nanos: AtomicU64,
}

struct Queue {
    batcher: Batcher<Job>,
    closed: bool,
}

impl Lane {
    /// Starts the workers: as many as the budget has threads.
    pub fn start(config: LaneConfig) -> Result<Lane> {
        let LaneConfig {
            name,
            model,
            queue_rows,
            metrics,
            budget,
        } = config;
        metrics.set_queue_capacity(queue_rows);
        metrics.set_queue_rows(0);
        let threads = budget.threads();
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                batcher: Batcher::new(queue_rows),
                closed: false,
            }),
            wake: Condvar::new(),
            model,
            queue_rows,
            metrics,
            budget,
            row_nanos: AtomicU64::new(0),
        });
        let mut lane = Lane {
            shared: shared.clone(),
            workers: Vec::with_capacity(threads),
        };
        for _ in 0..threads {
            let session = shared.model.session()?;
            let shared = shared.clone();
            let worker = thread::Builder::new()
                .name(name.clone())
                .spawn(move || shared.work(session));
            let worker = worker.map_err(|error| {
                Error::internal("a worker thread did not start").with_source(error)
            })?;
            lane.workers.push(worker);
        }
        Ok(lane)
    }

    /// Queues a request and waits for its outputs, until `deadline` at most. Dropping the future abandons the request.
    pub async fn run(&self, inputs: CheckedInputs, deadline: Instant) -> Result<Completed> {
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
        let row_seconds = self.row_nanos.load(Ordering::Relaxed) as f64 / 1e9;
        let seconds = waiting_rows as f64 * row_seconds / self.budget.threads() as f64;
        let (soonest, latest) = RETRY_AFTER_SECONDS;
        Duration::from_secs_f64(seconds.clamp(soonest, latest))
    }

    /// A worker's life: take a job, run it, answer, until the lane is closed.
    fn work(&self, session: Box<dyn Session>) {
        let mut session = Some(session);
        while let Some(job) = self.next_job() {
            let _permit = self.budget.acquire();
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
            let result = self.run_guarded(&mut session, &inputs);
            let timing = Timing {
                queue: started - queued_at,
                compute: started.elapsed(),
            };
            self.metrics
                .ran(inputs.rows(), timing.queue, timing.compute);
            self.learn(timing.compute, inputs.rows());
            // The receiver may have gone; then nobody needs the answer.
            let _ = reply.send(result.map(|outputs| Completed { outputs, timing }));
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.batcher.take_ripe(Instant::now()) {
                self.metrics.set_queue_rows(queue.batcher.rows());
                return Some(job);
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

    /// Runs the engine; after a panic the session's state cannot be trusted and a fresh one takes its place.
    fn run_guarded(
        &self,
        session: &mut Option<Box<dyn Session>>,
        inputs: &CheckedInputs,
    ) -> Result<Vec<Tensor>> {
        let run = AssertUnwindSafe(|| {
            let running = match session {
                Some(session) => session,
                None => session.insert(self.model.session()?),
            };
            running.run(inputs)
        });
        catch_unwind(run).unwrap_or_else(|_| {
            *session = None;
            Err(Error::internal("the engine panicked"))
        })
    }

    fn learn(&self, compute: Duration, rows: usize) {
        let nanos = u64::try_from(compute.as_nanos()).unwrap_or(u64::MAX) / rows as u64;
        let before = self.row_nanos.load(Ordering::Relaxed);
        let average = if before == 0 {
            nanos
        } else {
            before - before / 8 + nanos / 8
        };
        self.row_nanos.store(average, Ordering::Relaxed);
    }
}
