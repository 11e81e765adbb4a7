//! Measures ways of running a model against each other, side by side, so that what the machine does meanwhile hits all
//! of them alike. It takes its turn in the compute budget like everybody else.

mod batches;

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

pub use self::batches::{Batches, Measured, measure_batches, per_row};
use super::budget::ComputeBudget;
use super::lane::Split;
use crate::config::Aim;
use crate::engine::{Model, STACK_BYTES, Session};
use crate::error::{Error, Result, guarded};
use crate::tensor::signature::CheckedInputs;

/// How much ways are measured for requests of one size.
pub const OF_REQUESTS: Effort = Effort {
    rounds: 5,
    time: Duration::from_millis(500),
};
/// Past this the measuring ends, as soon as there is anything to compare.
const ENOUGH: Duration = Duration::from_secs(20);
/// A way's part of a round takes at least this long: shorter runs are repeated, after one that is not counted, since the
/// ways before it have filled the caches with theirs.
const LEAST_PART: Duration = Duration::from_millis(2);
/// The longest pause after a round, which is as long as the round was: requests come first.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Once one way has done its first runs, another may take so many times as long for its own, and so long in any case;
/// past that it is given up.
const TIMES_THE_FIRST: u32 = 20;
const LEAST_PATIENCE: Duration = Duration::from_secs(3);
/// A way whose runs are long and take so many times as long as the fastest's has lost already: requests need not wait
/// for more of them.
const LOST: f64 = 4.0;
const LONG_RUN: Duration = Duration::from_millis(50);

/// A way of running a model: by an engine, spread over threads like this.
#[derive(Clone)]
pub struct Way {
    pub engine: &'static str,
    pub model: Arc<dyn Model>,
    pub split: Split,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// So many rounds at least, one that is not counted before them.
    pub rounds: usize,
    /// When there have been these, it goes on while it has taken less than this.
    pub time: Duration,
}

/// The seconds that each way takes for one request, in the ways' order: with every worker busy for
/// [`Aim::Throughput`], a request's share of the time; alone for [`Aim::Latency`]. A way that fails has none, and neither
/// has any once it is over.
pub fn measure(
    ways: &[Way],
    inputs: &CheckedInputs,
    (aim, effort): (Aim, Effort),
    budget: &ComputeBudget,
    is_over: &dyn Fn() -> bool,
) -> Vec<Option<f64>> {
    let began = Instant::now();
    let mut runners = prepare(ways, inputs, aim, is_over);
    let first_runs = runners.iter().flatten().map(|runner| runner.first);
    let fastest = first_runs.min_by(f64::total_cmp).unwrap_or_default();
    if runners.iter().all(Option::is_none) {
        return vec![None; ways.len()];
    }
    for round in 0.. {
        let counted = round - 1;
        let is_long = began.elapsed() > effort.time && counted >= effort.rounds as i32;
        if is_long || (began.elapsed() > ENOUGH && counted > 0) {
            break;
        }
        let round_began = Instant::now();
        for runner in &mut runners {
            if is_over() {
                return vec![None; ways.len()];
            }
            let Some(running) = runner.as_mut().filter(|runner| !runner.has_lost(fastest)) else {
                continue;
            };
            let _permit = budget.acquire(running.threads);
            match running.run(inputs) {
                Ok(seconds) if round > 0 => running.seconds.push(seconds),
                Ok(_) => {}
                Err(_) => *runner = None,
            }
        }
        thread::sleep(round_began.elapsed().min(LONGEST_PAUSE));
    }
    runners
        .into_iter()
        .map(|runner| {
            let runner = runner?;
            match runner.has_lost(fastest) {
                true => Some(runner.first),
                false => median(runner.seconds),
            }
        })
        .collect()
}

/// Lets each way do its first runs on a thread of its own, which may be given up: no request waits for these.
fn prepare(
    ways: &[Way],
    inputs: &CheckedInputs,
    aim: Aim,
    is_over: &dyn Fn() -> bool,
) -> Vec<Option<Runner>> {
    let mut patience = ENOUGH;
    let prepare = |way: &Way| {
        if is_over() {
            return None;
        }
        let (way, inputs) = (way.clone(), inputs.clone());
        let (reply, prepared) = mpsc::sync_channel(1);
        let work = move || {
            // Nobody listens any more once it was given up.
            let _ = reply.send(Runner::new(&way, aim, &inputs).ok());
        };
        let thread = thread::Builder::new().name("measure".to_owned());
        let began = Instant::now();
        thread.stack_size(STACK_BYTES).spawn(work).ok()?;
        let runner = prepared.recv_timeout(patience).ok()??;
        patience = patience.min(LEAST_PATIENCE.max(began.elapsed() * TIMES_THE_FIRST));
        Some(runner)
    };
    ways.iter().map(prepare).collect()
}

fn median(mut seconds: Vec<f64>) -> Option<f64> {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied()
}

/// One way, ready to run.
struct Runner {
    sessions: Vec<Box<dyn Session>>,
    /// How many threads it takes.
    threads: usize,
    /// A request's time by the first run that counts.
    first: f64,
    is_long: bool,
    /// A request's time in each round.
    seconds: Vec<f64>,
}

impl Runner {
    fn new(way: &Way, aim: Aim, inputs: &CheckedInputs) -> Result<Runner> {
        let Way { model, split, .. } = way;
        let workers = match aim {
            Aim::Throughput => split.workers,
            Aim::Latency => 1,
        };
        guarded("while it was measured", || {
            let sessions = (0..workers).map(|_| model.session(split.threads));
            let mut sessions = sessions.collect::<Result<Vec<_>>>()?;
            // The first run may prepare something for these shapes.
            sessions[0].run(inputs)?;
            let started = Instant::now();
            sessions[0].run(inputs)?;
            let one = started.elapsed();
            Ok(Runner {
                sessions,
                threads: workers * split.threads,
                first: one.as_secs_f64() / workers as f64,
                is_long: one >= LONG_RUN,
                seconds: Vec::new(),
            })
        })
    }

    /// Whether it is so slow that more runs would tell nothing.
    fn has_lost(&self, fastest: f64) -> bool {
        self.is_long && self.first > fastest * LOST
    }

    /// Runs every session at once; the seconds that a request takes then.
    fn run(&mut self, inputs: &CheckedInputs) -> Result<f64> {
        if let [session] = &mut self.sessions[..] {
            return time(&mut **session, inputs);
        }
        let times: Vec<Result<f64>> = thread::scope(|scope| {
            let timed = self.sessions.iter_mut().map(|session| {
                thread::Builder::new()
                    .stack_size(STACK_BYTES)
                    .spawn_scoped(scope, || time(&mut **session, inputs))
            });
            let threads: Vec<_> = timed.collect();
            let lost = || Error::internal("a measuring thread was lost");
            let join = |thread: std::io::Result<thread::ScopedJoinHandle<'_, Result<f64>>>| {
                let joined = thread.map_err(|_| lost())?.join();
                joined.unwrap_or_else(|_| Err(lost()))
            };
            threads.into_iter().map(join).collect()
        });
        let rates = times.into_iter().map(|time| Ok(1.0 / time?));
        Ok(1.0 / rates.sum::<Result<f64>>()?)
    }
}

/// The seconds of one run.
fn time(session: &mut dyn Session, inputs: &CheckedInputs) -> Result<f64> {
    guarded("while it was measured", || {
        let began = Instant::now();
        session.run(inputs)?;
        let first = began.elapsed();
        if first >= LEAST_PART {
            return Ok(first.as_secs_f64());
        }
        let (began, mut runs) = (Instant::now(), 0);
        while began.elapsed() < LEAST_PART {
            session.run(inputs)?;
            runs += 1;
        }
        Ok(began.elapsed().as_secs_f64() / f64::from(runs))
    })
}
