//! One model's way through the machine: a bounded queue and the threads that run it.
//!
//! A request is queued or refused at once, never waits for a place, and its answer comes back through a oneshot. Requests
//! that wait together run together, as far as that pays. One exception, by measurement: where a run costs less than the
//! hop to another thread, and nobody waits, it runs where the request is. Either way it needs a permit of the budget, is
//! counted alike, and stands behind `catch_unwind`: a panic costs its own request and nothing else.

mod admission;
mod answers;
mod job;
mod pieces;
mod runner;
mod standing;
mod stretch;

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use self::admission::{Gate, expired, gone, lost, overdue};
use self::answers::Answers;
use self::job::{Backlog, Job, Reply, size};
use self::pieces::Cut;
use self::runner::{Apart, Runner};
use self::standing::Standing;
use super::batcher::{Dropped, Size};
use super::budget::ComputeBudget;
use super::cost::Costs;
use super::knobs::Knobs;
use super::queue::Queue;
use super::statistics::Statistics;
use crate::engine::{Model, STACK_BYTES};
use crate::error::{Error, Result};
use crate::in_flight::Room;
use crate::telemetry::metrics::{DropReason, ModelMetrics};
use crate::tensor::batch::ShapeClass;
use crate::tensor::signature::CheckedInputs;
use crate::tensor::value::{Tensor, bytes_of};

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
    pub knobs: Knobs,
    /// Whether it is proven that requests may be joined.
    pub joins: bool,
    /// What is known of the model's runs.
    pub costs: Arc<Costs>,
    pub metrics: ModelMetrics,
    pub statistics: Arc<Statistics>,
    pub budget: Arc<ComputeBudget>,
}

/// A request as the lane takes it.
#[derive(Debug)]
pub struct Request {
    pub inputs: CheckedInputs,
    pub deadline: Instant,
    /// From 1 on, the first going first; the model's default where it names none of its levels.
    pub priority: Option<u32>,
    /// What its outputs may take of the memory.
    pub room: Room,
}

/// The outputs of a request, in the signature's order, and how long it took.
#[derive(Debug)]
pub struct Completed {
    pub outputs: Vec<Tensor>,
    pub rows: usize,
    /// The rows of the run that it shared with others.
    pub batch_rows: usize,
    pub timing: Timing,
}

impl Completed {
    /// The same, if there is room for its outputs.
    fn within(self, room: &Room) -> Result<Completed> {
        room.came(bytes_of(&self.outputs))?;
        Ok(self)
    }
}

/// The phases of a request at a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    pub queue: Duration,
    pub compute: Duration,
}

struct Shared {
    queue: Queue<Job>,
    runner: Runner,
    knobs: Knobs,
    standing: Arc<Standing>,
    backlog: Arc<Backlog>,
    budget: Arc<ComputeBudget>,
}

/// What came of running a request where it is.
enum Here {
    Done(Result<Completed>),
    /// It may run here, once another run has ended.
    Busy,
    /// It has to queue.
    Never,
}

impl Lane {
    /// Starts the workers.
    pub fn start(config: LaneConfig) -> Result<Lane> {
        let LaneConfig {
            name,
            model,
            split,
            knobs,
            joins,
            costs,
            metrics,
            statistics,
            budget,
        } = config;
        metrics.set_queue_capacity(knobs.queue.rows, knobs.queue.bytes);
        metrics.set_queue(0, 0);
        let (shown, standing) = (metrics.clone(), Arc::new(Standing::default()));
        let seen = standing.clone();
        let changed = Box::new(move |waiting: Size, dropped| {
            seen.saw(waiting.rows > 0, Instant::now());
            shown.set_queue(waiting.rows, waiting.bytes);
            let Dropped { expired, abandoned } = dropped;
            shown.dropped(DropReason::Expired, expired);
            shown.dropped(DropReason::Abandoned, abandoned);
        });
        let shared = Arc::new(Shared {
            queue: Queue::new(knobs.rules(), changed),
            standing,
            backlog: Backlog::new(knobs.levels()),
            knobs,
            budget,
            runner: Runner {
                model,
                split,
                metrics,
                statistics,
                costs,
                joins,
                apart: Apart::default(),
                answers: Answers::default(),
                sessions: Mutex::default(),
            },
        });
        let mut lane = Lane {
            shared: shared.clone(),
            workers: Vec::with_capacity(split.workers),
        };
        for _ in 0..split.workers {
            let runner = &shared.runner;
            runner.give_back(runner.model.session(split.threads)?);
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
        &self.shared.runner.model
    }

    /// What is known of the model's runs.
    pub fn costs(&self) -> &Costs {
        &self.shared.runner.costs
    }

    /// What goes for its requests.
    pub fn knobs(&self) -> &Knobs {
        &self.shared.knobs
    }

    /// Refuses a request of which nothing is known yet, if there is no place for it whatever it is.
    pub fn check_place(&self) -> Result<()> {
        self.shared.check_place()
    }

    /// Queues a request and waits for its outputs, until its deadline at most. Dropping the future abandons the request.
    pub async fn run(&self, request: Request) -> Result<Completed> {
        if Instant::now() >= request.deadline {
            return Err(expired());
        }
        for _ in 0..TRIES_HERE {
            match self.shared.run_here(&request) {
                Here::Done(result) => return result,
                // Another short run is about to end; others get their turn meanwhile.
                Here::Busy => tokio::task::yield_now().await,
                Here::Never => break,
            }
        }
        let gate = Gate::new(&self.shared.knobs, &request);
        // Before anything is cut or counted: what can never fit costs nothing.
        let size = size(&request.inputs);
        self.shared.check_size(size, &gate)?;
        let answers = &self.shared.runner.answers;
        request.room.expect(answers.expected(size))?;
        let (class, joins) = self.shared.runner.class(&request.inputs);
        let costs = &self.shared.runner.costs;
        let counts = match joins {
            true => pieces::counts(costs, &class, size),
            false => Vec::new(),
        };
        let shape = Shape { class, joins };
        match counts.len() {
            0 | 1 => self.shared.run_whole(request, shape, gate).await,
            _ => {
                let cut = Cut { shape, counts };
                self.shared.run_in_pieces(request, cut, gate).await
            }
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        for job in self.shared.queue.close() {
            job.reply.send(Err(gone()));
        }
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                tracing::error!("a worker thread panicked outside of an engine");
            }
        }
    }
}

/// What a request's dimensions allow.
struct Shape {
    class: ShapeClass,
    joins: bool,
}

impl Shared {
    /// Runs a short request on the calling thread, unless others wait or the machine is busy.
    fn run_here(&self, request: &Request) -> Here {
        let Request { inputs, room, .. } = request;
        let (size, runner) = (size(inputs), &self.runner);
        if size.rows > self.knobs.queue.rows
            || size.bytes > self.knobs.queue.bytes
            || size.rows > runner.costs.bounds().most_rows
            || !self.knobs.delay().is_zero()
            || runner.split.threads > 1
            || !runner.costs.is_short(size)
            || !runner.model.is_prepared(inputs)
            || !self.standing.is_empty()
        {
            return Here::Never;
        }
        match self.budget.try_acquire_async() {
            Some(_permit) => {
                let result = runner.run_prepared(inputs);
                Here::Done(result.and_then(|completed| completed.within(room)))
            }
            None => Here::Busy,
        }
    }

    /// Runs a request that need not be cut.
    async fn run_whole(&self, request: Request, shape: Shape, gate: Gate) -> Result<Completed> {
        let (reply, mut answer) = oneshot::channel();
        let deadline = request.deadline;
        let job = self.job(&gate, request.inputs, &shape, Reply::Whole(reply));
        let queued = self.push(vec![job], &gate)?;
        if let Some(until) = gate.waits_until {
            match timeout_at(until.into(), &mut answer).await {
                Ok(answer) => return queued.end(answer.unwrap_or_else(|_| Err(lost(deadline)))),
                Err(_) if queued.withdraw(DropReason::Expired) => return Err(overdue()),
                // It runs.
                Err(_) => {}
            }
        }
        match timeout_at(deadline.into(), answer).await {
            Ok(answer) => queued.end(answer.unwrap_or_else(|_| Err(lost(deadline)))),
            Err(_) => Err(expired()),
        }
    }

    /// A worker's life: take a batch, run it, answer, until the lane is closed.
    fn work(&self) {
        let costs = &self.runner.costs;
        let threads = self.runner.split.threads;
        while self
            .queue
            .wait(Instant::now, |class| costs.most_rows(class))
        {
            // What comes until it is this one's turn runs with the rest.
            let _permit = self.budget.acquire(threads);
            let could_run = 1 + self.budget.free_threads() / threads;
            let plan = |class: &ShapeClass, there| match there {
                None => costs.next_rows(class, self.at_once()),
                Some(there) => costs.rows_of(class, there),
            };
            let batch = self.queue.take(Instant::now(), could_run, plan);
            self.learn_wait(&batch);
            self.runner.run_batch(batch);
        }
    }
}
