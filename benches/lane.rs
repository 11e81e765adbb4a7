//! What does a request pay for the queue and the worker, when the engine itself does nothing?
//!
//! Four ways to the same engine, one request at a time from a task of the async runtime:
//! - `session`: `Session::run` called directly; the floor.
//! - `inline`: through the lane, which runs a short request where it is.
//! - `worker`: through the lane's queue and worker threads. The lane takes this way for engines that are not short,
//!   so this one spins for a while, and the time that the lane reports as compute is subtracted.
//! - `bare hop`: the same spinning engine behind a plain channel and thread; what no queue of ours could save.
//!
//! The allocator is the binary's.
//!
//! `cargo bench --bench lane`

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use onnxd::engine::{Model, Session};
use onnxd::error::Result;
use onnxd::in_flight::{RequestBudget, Room};
use onnxd::repository::manifest::ModelManifest;
use onnxd::serving::batcher::Size;
use onnxd::serving::budget::ComputeBudget;
use onnxd::serving::cost::Costs;
use onnxd::serving::knobs::{Defaults, Knobs};
use onnxd::serving::lane::{Lane, LaneConfig, Request, Split};
use onnxd::telemetry::metrics::Metrics;
use onnxd::tensor::signature::{CheckedInputs, Signature};
use onnxd::tensor::value::Tensor;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Longer than any run that the lane calls short.
const SPIN: Duration = Duration::from_micros(200);
const THREADS: usize = 2;
/// So many runs settle the lane's mind on how long the engine takes.
const RUNS_TO_SETTLE: u64 = 200;

/// A model without inputs and outputs.
#[derive(Default)]
struct Idle {
    signature: Signature,
    spin: Duration,
}

struct IdleSession(Duration);

impl Model for Idle {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self, _threads: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(IdleSession(self.spin)))
    }
}

impl Session for IdleSession {
    fn run(&mut self, _: &CheckedInputs) -> Result<Vec<Tensor>> {
        if !self.0.is_zero() {
            let end = Instant::now() + self.0;
            while Instant::now() < end {
                std::hint::spin_loop();
            }
        }
        Ok(Vec::new())
    }
}

fn overhead(criterion: &mut Criterion) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_time()
        .build()
        .expect("the async runtime starts");
    let mut group = criterion.benchmark_group("overhead");
    let mut session = Idle::default().session(1).expect("it needs nothing");
    let inputs = no_inputs();
    group.bench_function("session", |bencher| {
        bencher.iter(|| session.run(&inputs.clone()))
    });
    let inline = start(Duration::ZERO);
    assert!(settle(&runtime, &inline).is_zero(), "it must run inline");
    group.bench_function("inline", |bencher| {
        bencher.iter_custom(|times| on(&runtime, through_lane(inline.clone(), times)).whole)
    });
    let worker = start(SPIN);
    assert!(
        !settle(&runtime, &worker).is_zero(),
        "it must not run inline"
    );
    group.bench_function("worker", |bencher| {
        bencher.iter_custom(|times| on(&runtime, through_lane(worker.clone(), times)).around())
    });
    let hop = start_bare_worker();
    group.bench_function("bare hop", |bencher| {
        bencher.iter_custom(|times| on(&runtime, through_channel(hop.clone(), times)).around())
    });
}

/// What some requests took.
#[derive(Default)]
struct Spent {
    whole: Duration,
    compute: Duration,
    queue: Duration,
}

impl Spent {
    fn around(&self) -> Duration {
        self.whole - self.compute
    }
}

/// Runs `work` as a task, as handlers run.
fn on(runtime: &Runtime, work: impl Future<Output = Spent> + Send + 'static) -> Spent {
    let spent = runtime.block_on(runtime.spawn(work));
    spent.expect("the task does not panic")
}

fn start(spin: Duration) -> Arc<Lane> {
    let queue = Size {
        rows: 1024,
        bytes: 1 << 30,
    };
    let defaults = Defaults {
        queue,
        latency_target: None,
    };
    let knobs = Knobs::new(&ModelManifest::default(), &defaults);
    let lane = Lane::start(LaneConfig {
        name: "idle".to_owned(),
        model: Arc::new(Idle {
            spin,
            ..Idle::default()
        }),
        split: Split {
            workers: THREADS,
            threads: 1,
        },
        knobs: knobs.clone(),
        joins: true,
        costs: Arc::new(Costs::new(knobs.bounds())),
        statistics: Arc::default(),
        metrics: Metrics::new().model("idle", "1"),
        budget: Arc::new(ComputeBudget::new(THREADS, THREADS + 1)),
    });
    Arc::new(lane.expect("two threads start"))
}

/// Lets the lane learn what the engine takes; returns how long the last request was queued, which is zero inline.
fn settle(runtime: &Runtime, lane: &Arc<Lane>) -> Duration {
    on(runtime, through_lane(lane.clone(), RUNS_TO_SETTLE));
    on(runtime, through_lane(lane.clone(), 1)).queue
}

async fn through_lane(lane: Arc<Lane>, times: u64) -> Spent {
    let (inputs, mut spent) = (no_inputs(), Spent::default());
    let room = Room::new(RequestBudget::new(1 << 30).hold(), 1);
    for _ in 0..times {
        let started = Instant::now();
        let deadline = started + Duration::from_secs(30);
        let request = Request {
            inputs: inputs.clone(),
            deadline,
            priority: None,
            room: room.clone(),
        };
        let completed = lane.run(request).await;
        spent.whole += started.elapsed();
        let timing = completed.expect("an idle model answers").timing;
        spent.compute += timing.compute;
        spent.queue = timing.queue;
    }
    spent
}

type BareJob = (CheckedInputs, oneshot::Sender<Duration>);

/// The thread ends with the last sender.
fn start_bare_worker() -> mpsc::Sender<BareJob> {
    let (sender, jobs) = mpsc::channel::<BareJob>();
    std::thread::spawn(move || {
        let mut session = IdleSession(SPIN);
        for (inputs, reply) in jobs {
            let started = Instant::now();
            session.run(&inputs).expect("it never fails");
            // The receiver waits for as long as the bench runs.
            let _ = reply.send(started.elapsed());
        }
    });
    sender
}

async fn through_channel(worker: mpsc::Sender<BareJob>, times: u64) -> Spent {
    let (inputs, mut spent) = (no_inputs(), Spent::default());
    for _ in 0..times {
        let started = Instant::now();
        let (reply, answer) = oneshot::channel();
        let sent = worker.send((inputs.clone(), reply));
        sent.expect("the worker lives as long as its sender");
        let compute = answer.await;
        spent.whole += started.elapsed();
        spent.compute += compute.expect("the worker answers");
    }
    spent
}

fn no_inputs() -> CheckedInputs {
    let checked = Signature::default().check(Vec::new());
    checked.expect("nothing is asked for")
}

fn settings() -> Criterion {
    Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(8))
}

criterion_group! { name = benches; config = settings(); targets = overhead }
criterion_main!(benches);
