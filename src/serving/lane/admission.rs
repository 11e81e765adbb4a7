//! What lets a request into the queue, what it is told otherwise, and how it gets out again.

use std::time::{Duration, Instant};

use tracing::Span;

use super::job::{Ahead, Job, Reply, size};
use super::{Request, Shape, Shared, Split};
use crate::error::{Error, ErrorKind, Result};
use crate::in_flight::Room;
use crate::repository::scheduling::TimeoutAction;
use crate::serving::batcher::{Queued as _, Refused, Size, Ticket};
use crate::serving::cost::Best;
use crate::serving::knobs::Knobs;
use crate::serving::moderation;
use crate::serving::queue::NotQueued;
use crate::telemetry::logging::milliseconds;
use crate::telemetry::metrics::DropReason;
use crate::tensor::signature::CheckedInputs;

/// The soonest and the latest that a refused client is told to try again.
const RETRY_AFTER_SECONDS: (f64, f64) = (1.0, 30.0);

/// A wait of such a part of the latency target tells how much longer waits are than expected; shorter ones hang on chance.
const TELLING: u32 = 16;

/// A queue that stands is let become as long as such a part of the latency target.
const STANDS_FOR: u32 = 4;
/// So many rows in the queue: where they come by chance as fast as they run and run one by one, about one in twice as many
/// finds no place (M/D/1/K), whatever the place more would give.
const BUSY_ROWS: u32 = 24;

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

    /// Refuses a request of which nothing is known but that it wants a place, and which may go first.
    pub(super) fn check_place(&self) -> Result<()> {
        if self.standing.is_empty() {
            return Ok(());
        }
        let wait = self.wait(self.backlog.ahead(0));
        self.check_wait(wait, || self.runner.costs.main_best())?;
        let row = Size { rows: 1, bytes: 0 };
        let place = self.queue.check_place(row, Instant::now());
        place.map_err(|waiting| self.is_full(waiting, row, wait))
    }

    /// Queues jobs of one request, all or none.
    pub(super) fn push(&self, jobs: Vec<Job>, gate: &Gate) -> Result<Queued<'_>> {
        let size: Size = jobs.iter().map(|job| job.size()).sum();
        let mut wait = Duration::ZERO;
        if let Some(job) = jobs.first() {
            wait = self.wait(job.load.ahead());
            self.check_wait(wait, || self.runner.costs.best(&job.class))?;
        }
        match self.queue.push_all(jobs, Instant::now()) {
            Ok(tickets) => Ok(Queued {
                shared: self,
                tickets,
                deadline: gate.deadline,
            }),
            Err(NotQueued::Closed) => Err(gone()),
            Err(NotQueued::Refused(Refused::TooLarge, _)) => {
                Err(self.is_too_large(size.rows, gate))
            }
            Err(NotQueued::Refused(Refused::Full, waiting)) => {
                Err(self.is_full(waiting, size, wait))
            }
        }
    }

    /// Refuses what would wait for too long.
    fn check_wait(&self, wait: Duration, best: impl FnOnce() -> Best) -> Result<()> {
        match self.knobs.latency_target {
            Some(target) if wait > self.patience(best(), target) => Err(is_late(wait, target)),
            _ => Ok(()),
        }
    }

    fn is_full(&self, waiting: Size, more: Size, wait: Duration) -> Error {
        let (queue, all) = (self.knobs.queue, waiting + more);
        let full = match all.rows > queue.rows {
            true => format!("{} of {} rows are waiting", waiting.rows, queue.rows),
            false if all.bytes > queue.bytes => {
                format!("{} of {} bytes are waiting", waiting.bytes, queue.bytes)
            }
            false => "too many rows of its priority are waiting".to_owned(),
        };
        let message = format!("the model's queue is full: {full}; try again later");
        try_again(message, wait)
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

    fn patience(&self, best: Best, target: Duration) -> Duration {
        let stands = self.standing.time(Instant::now()) > target;
        patience(best, target, self.at_once(), stands)
    }

    /// How long a request may well have to wait.
    fn wait(&self, ahead: Ahead<'_>) -> Duration {
        ahead.stretch.of(self.expected_wait(ahead))
    }

    /// How long the workers need for what is there before it, by the rate that was measured.
    fn expected_wait(&self, ahead: Ahead<'_>) -> Duration {
        ahead.work / self.at_once()
    }

    /// How many workers run at once, however many there are.
    pub(super) fn at_once(&self) -> u32 {
        let Split { workers, threads } = self.runner.split;
        let at_once = workers.min(self.budget.threads() / threads.max(1)).max(1);
        u32::try_from(at_once).unwrap_or(u32::MAX)
    }

    /// Learns from a batch that is about to run how waits differ from what was expected, where they matter: requests that
    /// hardly wait tell nothing of it.
    pub(super) fn learn_wait(&self, batch: &[Job]) {
        if let Some((job, target)) = batch.first().zip(self.knobs.latency_target)
            && let ahead = job.load.ahead()
            && self.wait(ahead) >= target / TELLING
        {
            let expected = self.expected_wait(ahead);
            ahead.stretch.learn(expected, job.queued_at.elapsed());
        }
    }
}

/// How long a request may have to wait, so that its run ends in time; half of the target where runs take long. Where the
/// queue stands, only as long as keeps so many workers busy: two batches each, and so many rows that chance hardly ever
/// empties it.
fn patience(best: Best, target: Duration, workers: u32, stands: bool) -> Duration {
    let Best { rows, takes } = best;
    let in_time = target.saturating_sub(takes).max(target / 2);
    if !stands {
        return in_time;
    }
    let rows = u32::try_from(rows.max(1)).unwrap_or(u32::MAX);
    let many_rows = takes * BUSY_ROWS / rows / workers;
    in_time.min(many_rows.max(2 * takes).max(target / STANDS_FOR))
}

fn is_late(wait: Duration, target: Duration) -> Error {
    let message = format!(
        "the model is {} ms behind, too much for its latency target of {} ms; try again later",
        milliseconds(wait),
        target.as_millis()
    );
    try_again(message, wait)
}

/// What a request is refused with that would have had to wait so long.
fn try_again(message: String, wait: Duration) -> Error {
    moderation::refused(wait);
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

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(100);

    fn patience_ms(rows: usize, takes_ms: u64, workers: u32, stands: bool) -> u128 {
        let takes = Duration::from_millis(takes_ms);
        patience(Best { rows, takes }, TARGET, workers, stands).as_millis()
    }

    #[test]
    fn a_request_may_wait_for_what_its_run_leaves_of_the_target() {
        assert_eq!(patience_ms(1, 1, 1, false), 99);
        assert_eq!(patience_ms(16, 30, 2, false), 70);
        assert_eq!(patience_ms(1, 80, 1, false), 50);
    }

    #[test]
    fn a_queue_that_stands_is_kept_as_short_as_keeps_the_workers_busy() {
        // What runs soon: a part of the target.
        assert_eq!(patience_ms(1, 0, 1, true), 25);
        // Two batches of many rows.
        assert_eq!(patience_ms(64, 20, 1, true), 40);
        // Many rows that run one by one, on one worker and on two.
        assert_eq!(patience_ms(1, 3, 1, true), 72);
        assert_eq!(patience_ms(1, 3, 2, true), 36);
        // Never longer than one that does not stand.
        assert_eq!(patience_ms(1, 10, 1, true), 90);
        assert_eq!(patience_ms(1, 80, 1, true), 50);
    }
}
