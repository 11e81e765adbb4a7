//! The batcher between threads: requests push and withdraw, workers wait for batches, and an end that everybody sees.
//!
//! Nobody waits for a place. Every job that was queued comes out exactly once: in a batch, withdrawn, dropped because
//! nobody needs it, or left over when the queue closes. `tests/shuttle.rs` checks this over schedules of threads, so
//! locks come from `sync` and the time from whoever calls.

use std::time::Instant;

use super::batcher::{Batcher, Dropped, Queued, Refused, Rules, Size, Ticket};
use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A queue that many threads use.
pub struct Queue<J> {
    state: Mutex<State<J>>,
    wake: Condvar,
    changed: Observer,
}

/// Is told what waits and what was dropped, after every change and in order.
pub type Observer = Box<dyn Fn(Size, Dropped) + Send + Sync>;

struct State<J> {
    batcher: Batcher<J>,
    closed: bool,
    /// Workers that have no batch: they wait for one, or are about to take one.
    idle: usize,
}

/// Why jobs were not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotQueued {
    Closed,
    /// And what was waiting then.
    Refused(Refused, Size),
}

impl<J: Queued> Queue<J> {
    /// An empty queue.
    pub fn new(rules: Rules, changed: Observer) -> Self {
        Self {
            state: Mutex::new(State {
                batcher: Batcher::new(rules),
                closed: false,
                idle: 0,
            }),
            wake: Condvar::new(),
            changed,
        }
    }

    /// Queues jobs of one level, all or none, and wakes somebody to take them.
    pub fn push_all(&self, jobs: Vec<J>, now: Instant) -> Result<Vec<Ticket>, NotQueued> {
        let mut state = self.lock();
        if state.closed {
            return Err(NotQueued::Closed);
        }
        let pushed = state.batcher.push_all(jobs, now);
        let waiting = state.batcher.waiting();
        self.tell(&mut state);
        drop(state);
        let tickets = pushed.map_err(|refused| NotQueued::Refused(refused, waiting))?;
        self.wake.notify_one();
        Ok(tickets)
    }

    /// Whether there is a place for this much, of whatever level; what is waiting, if not.
    pub fn check_place(&self, more: Size, now: Instant) -> Result<(), Size> {
        let mut state = self.lock();
        let has_place = state.batcher.makes_place(more, None, now);
        self.tell(&mut state);
        match has_place {
            true => Ok(()),
            false => Err(state.batcher.waiting()),
        }
    }

    /// Takes a job out before it has run.
    pub fn withdraw(&self, ticket: Ticket) -> Option<J> {
        let mut state = self.lock();
        let job = state.batcher.withdraw(ticket);
        self.tell(&mut state);
        job
    }

    /// Lets a worker wait until it may look for a batch with [`Queue::take`], which it must do then; false once the
    /// queue is closed.
    pub fn wait(&self, now: impl Fn() -> Instant, most_rows: impl Fn(&J::Class) -> usize) -> bool {
        let mut state = self.lock();
        state.idle += 1;
        loop {
            if state.closed {
                return false;
            }
            let at = now();
            if state.batcher.is_ripe(at, &most_rows) {
                return true;
            }
            state.batcher.drop_useless(at);
            self.tell(&mut state);
            state = match state.batcher.next_deadline() {
                None => {
                    let woken = self.wake.wait(state);
                    woken.unwrap_or_else(PoisonError::into_inner)
                }
                Some(ripe) => {
                    let left = ripe.saturating_duration_since(at);
                    let woken = self.wake.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// The next batch, where there is one: a share of what waits, if others could run theirs now as well.
    pub fn take(
        &self,
        now: Instant,
        could_run: usize,
        plan: impl FnMut(&J::Class, Option<usize>) -> usize,
    ) -> Vec<J> {
        let mut state = self.lock();
        let idle = state.idle.min(could_run);
        state.idle -= 1;
        let batch = state.batcher.take_ripe(now, idle, plan);
        self.tell(&mut state);
        let is_more = state.batcher.waiting().rows > 0 && state.idle > 0;
        drop(state);
        if is_more {
            // Whoever was woken for it may be this one.
            self.wake.notify_one();
        }
        batch
    }

    /// Lets nothing in any more, lets the workers go, and hands out what is left.
    pub fn close(&self) -> Vec<J> {
        let mut state = self.lock();
        state.closed = true;
        let left = state.batcher.drain();
        self.tell(&mut state);
        drop(state);
        self.wake.notify_all();
        left
    }

    fn tell(&self, state: &mut State<J>) {
        (self.changed)(state.batcher.waiting(), state.batcher.take_dropped());
    }

    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
