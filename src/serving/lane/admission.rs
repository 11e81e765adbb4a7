//! What lets a request into the queue, what it is told otherwise, and how it gets out again.

use std::time::{Duration, Instant};

use tracing::Span;

use super::job::{Job, Load, Reply, size};
use super::{Request, Shape, Shared, Split};
use crate::error::{Error, ErrorKind, Result};
use crate::in_flight::Room;
use crate::repository::scheduling::TimeoutAction;
use crate::serving::batcher::{Queued as _, Refused, Size, Ticket};
use crate::serving::knobs::Knobs;
use crate::serving::queue::NotQueued;
use crate::telemetry::logging::milliseconds;
use crate::telemetry::metrics::DropReason;
use crate::tensor::signature::CheckedInputs;

/// The soonest and the latest that a refused client is told to try again.
const RETRY_AFTER_SECONDS: (f64, f64) = (1.0, 30.0);

/// A wait of such a part of the latency target tells how much longer waits are than expected; shorter ones hang on chance.
const TELLING: u32 = 16;

/// What goes for one request at the queue.
pub struct Gate {
    level: usize,
    deadline: Instant,
    /// Until then it must have begun to run, where that comes before the deadline.
    pub waits_until: Option<Instant>,
    room: Room,
}

impl Gate {
    /// By the owner's rules for its level.
    pub fn new(knobs: &Knobs, request: &Request) -> Gate {
        let level = knobs.level(request.priority);
        let policy = knobs.policy(level);
        let patience = policy
            .default_timeout
            .filter(|_| policy.timeout_action == TimeoutAction::Reject);
        let until = patience.map(|patience| Instant::now() + patience);
        Gate {
            level,
            deadline: request.deadline,
            waits_until: until.filter(|until| *until < request.deadline),
            room: request.room.clone(),
        }
    }
}

impl Shared {
    /// What a worker gets.
    pub(super) fn job(
        &self,
        gate: &Gate,
        inputs: CheckedInputs,
        shape: &Shape,
        reply: Reply,
    ) -> Job {
        let work = self.runner.costs.expected(&shape.class, size(&inputs));
        Job {
            inputs,
            class: shape.class.clone(),
            joins: shape.joins,
            level: gate.level,
            deadline: gate.deadline,
            queued_at: Instant::now(),
            span: Span::current(),
            reply,
            room: gate.room.clone(),
            load: self.backlog.add(gate.level, work),
        }
    }

    /// Refuses what the queue can never hold.
    pub(super) fn check_size(&self, size: Size, gate: &Gate) -> Result<()> {
        let queue = self.knobs.queue;
        let fits = size.rows <= self.most_rows(gate) && size.bytes <= queue.bytes;
        match fits {
            true => Ok(()),
            false => Err(self.is_too_large(size.rows, gate)),
        }
    }

    /// The most rows of a request's level that may wait.
    fn most_rows(&self, gate: &Gate) -> usize {
        let (most, all) = (
            self.knobs.policy(gate.level).max_queue_rows,
            self.knobs.queue.rows,
        );
        most.map_or(all, |most| most.min(all))
    }

    /// Queues jobs of one request, all or none.
    pub(super) fn push(&self, jobs: Vec<Job>, gate: &Gate) -> Result<Queued<'_>> {
        let Size { rows, bytes } = jobs.iter().map(|job| job.size()).sum();
        let first = jobs.first();
        let wait = first.map_or(Duration::ZERO, |job| self.wait(&job.load));
        if let Some((job, target)) = first.zip(self.knobs.latency_target)
            && wait > self.patience(job, target)
        {
            return Err(is_late(wait, target));
        }
        match self.queue.push_all(jobs, Instant::now()) {
            Ok(tickets) => Ok(Queued {
                shared: self,
                tickets,
                deadline: gate.deadline,
            }),
            Err(NotQueued::Closed) => Err(gone()),
            Err(NotQueued::Refused(Refused::TooLarge, _)) => Err(self.is_too_large(rows, gate)),
            Err(NotQueued::Refused(Refused::Full, waiting)) => {
                let queue = self.knobs.queue;
                let full = match waiting.rows + rows > queue.rows {
                    true => format!("{} of {} rows are waiting", waiting.rows, queue.rows),
                    false if waiting.bytes + bytes > queue.bytes => {
                        format!("{} of {} bytes are waiting", waiting.bytes, queue.bytes)
                    }
                    false => "too many rows of its priority are waiting".to_owned(),
                };
                let message = format!("the model's queue is full: {full}; try again later");
                Err(try_again(message, wait))
            }
        }
    }

    fn is_too_large(&self, rows: usize, gate: &Gate) -> Error {
        let queue = self.knobs.queue;
        let most_rows = self.most_rows(gate);
        Error::too_large(match rows > most_rows {
            true => format!(
                "the request has {rows} rows and the model's queue holds at most {most_rows}; send fewer at once"
            ),
            false => format!(
                "the request's inputs have more bytes than the model's queue holds, which is {}; send fewer rows at \
                 once",
                queue.bytes
            ),
        })
    }

    /// How long a request may have to wait, so that its run ends in time; half of the target where runs take long.
    fn patience(&self, job: &Job, target: Duration) -> Duration {
        let run = self.runner.costs.run(&job.class);
        target.saturating_sub(run).max(target / 2)
    }

    /// How long a request may well have to wait.
    fn wait(&self, load: &Load) -> Duration {
        load.stretch().of(self.expected_wait(load))
    }

    /// How long the workers need for what was there before it, by the rate that was measured.
    fn expected_wait(&self, load: &Load) -> Duration {
        let Split { workers, threads } = self.runner.split;
        // However many workers there are, no more of them run at once.
        let at_once = workers.min(self.budget.threads() / threads.max(1)).max(1);
        load.ahead() / u32::try_from(at_once).unwrap_or(u32::MAX)
    }

    /// Learns from a batch that is about to run how waits differ from what was expected, where they matter: requests that
    /// hardly wait tell nothing of it.
    pub(super) fn learn_wait(&self, batch: &[Job]) {
        if let Some((job, target)) = batch.first().zip(self.knobs.latency_target)
            && self.wait(&job.load) >= target / TELLING
        {
            let expected = self.expected_wait(&job.load);
            job.load.stretch().learn(expected, job.queued_at.elapsed());
        }
    }
}

fn is_late(wait: Duration, target: Duration) -> Error {
    let message = format!(
        "the model is {} ms behind, too much for its latency target of {} ms; try again later",
        milliseconds(wait),
        target.as_millis()
    );
    try_again(message, wait)
}

fn try_again(message: String, wait: Duration) -> Error {
    let (soonest, latest) = RETRY_AFTER_SECONDS;
    let seconds = wait.as_secs_f64().clamp(soonest, latest);
    Error::new(ErrorKind::QueueFull, message).with_retry_after(Duration::from_secs_f64(seconds))
}

/// What a request has in the queue: taken out of it when this is dropped, so that nothing runs that nobody waits for.
pub struct Queued<'a> {
    shared: &'a Shared,
    tickets: Vec<Ticket>,
    deadline: Instant,
}

impl Queued<'_> {
    /// Takes out what still waits; whether there was anything.
    pub fn withdraw(&self, reason: DropReason) -> bool {
        let tickets = self.tickets.iter();
        let waited = tickets.filter(|ticket| self.shared.queue.withdraw(**ticket).is_some());
        let count = waited.count() as u64;
        self.shared.runner.metrics.dropped(reason, count);
        count > 0
    }

    /// There is an answer, so nothing waits any more.
    pub fn end<T>(mut self, answer: Result<T>) -> Result<T> {
        self.tickets.clear();
        answer
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        if self.tickets.is_empty() {
            return;
        }
        self.withdraw(match Instant::now() >= self.deadline {
            true => DropReason::Expired,
            false => DropReason::Abandoned,
        });
    }
}

pub fn gone() -> Error {
    Error::unavailable("the model is being unloaded; try again")
        .with_retry_after(Duration::from_secs(1))
}

pub fn expired() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "the deadline passed before the model answered",
    )
}

/// Nobody will answer: a worker that found the job expired dropped it, and may be quicker than the request's own timer.
pub fn lost(deadline: Instant) -> Error {
    match Instant::now() >= deadline {
        true => expired(),
        false => gone(),
    }
}

pub fn overdue() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "the request waited longer than the model's queue policy lets it",
    )
}
