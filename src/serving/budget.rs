//! The machine's compute, shared by all models: at any moment no more threads run models than there are inference
//! threads, whichever engine runs them.
//!
//! Every model has workers enough to use the whole machine when it is alone; together they must not use more. Short
//! runs take place on the async threads, at most so many at once that one such thread is always left for probes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How many threads may run models at once.
#[derive(Debug)]
pub struct ComputeBudget {
    threads: usize,
    free: Mutex<Free>,
    freed: Condvar,
}

#[derive(Debug)]
struct Free {
    /// Threads that may compute, wherever they are.
    anywhere: usize,
    /// Of these, how many may be async threads.
    on_async_threads: usize,
    /// Whose turn it is, and who comes last: those that wait are served in the order in which they came.
    turn: u64,
    last: u64,
    /// The turns of those that wait no more.
    given_up: Vec<u64>,
}

/// The right to compute on so many threads; given back on drop.
#[derive(Debug)]
pub struct Permit<'a> {
    budget: &'a ComputeBudget,
    threads: usize,
    on_async_thread: bool,
}

impl ComputeBudget {
    /// A budget of `threads` computing at once, for a runtime with `async_threads` of its own.
    pub fn new(threads: usize, async_threads: usize) -> Self {
        let free = Free {
            anywhere: threads,
            on_async_threads: async_threads.saturating_sub(1),
            turn: 0,
            last: 0,
            given_up: Vec::new(),
        };
        Self {
            threads,
            free: Mutex::new(free),
            freed: Condvar::new(),
        }
    }

    /// How many threads may compute at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// How many threads could compute now beside those that do; none while somebody waits for some.
    pub fn free_threads(&self) -> usize {
        let free = self.lock();
        if free.is_awaited() { 0 } else { free.anywhere }
    }

    /// Waits for a permit for so many threads, or for all where there are fewer; on a thread that may wait.
    pub fn acquire(&self, threads: usize) -> Permit<'_> {
        let threads = threads.min(self.threads);
        let mut free = self.lock();
        let own = free.queue_up();
        while !free.is_ready(own, threads) {
            free = self
                .freed
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
        self.take(free, threads)
    }

    /// The same, for somebody who waits no longer than until then: what runs may not end.
    pub fn acquire_until(&self, threads: usize, until: Instant) -> Option<Permit<'_>> {
        let threads = threads.min(self.threads);
        let mut free = self.lock();
        let own = free.queue_up();
        while !free.is_ready(own, threads) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                free.given_up.push(own);
                free.pass_over();
                drop(free);
                self.freed.notify_all();
                return None;
            }
            let woken = self.freed.wait_timeout(free, left);
            free = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(self.take(free, threads))
    }

    /// Takes what is ready.
    fn take(&self, mut free: MutexGuard<'_, Free>, threads: usize) -> Permit<'_> {
        free.turn += 1;
        free.pass_over();
        free.anywhere -= threads;
        if free.is_awaited() && free.anywhere > 0 {
            self.freed.notify_all();
        }
        Permit {
            budget: self,
            threads,
            on_async_thread: false,
        }
    }

    /// A permit to run on an async thread, if one is free now.
    pub fn try_acquire_async(&self) -> Option<Permit<'_>> {
        let mut free = self.lock();
        if free.anywhere == 0 || free.on_async_threads == 0 || free.is_awaited() {
            return None;
        }
        free.anywhere -= 1;
        free.on_async_threads -= 1;
        Some(Permit {
            budget: self,
            threads: 1,
            on_async_thread: true,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Free {
    /// Whether somebody waits; nobody overtakes them.
    fn is_awaited(&self) -> bool {
        self.last - self.turn != self.given_up.len() as u64
    }

    /// The turn of one more that waits.
    fn queue_up(&mut self) -> u64 {
        self.last += 1;
        self.last - 1
    }

    fn is_ready(&self, own: u64, threads: usize) -> bool {
        self.turn == own && self.anywhere >= threads
    }

    /// Lets the next one have its turn, where those before it wait no more.
    fn pass_over(&mut self) {
        while let Some(at) = self.given_up.iter().position(|turn| *turn == self.turn) {
            self.given_up.swap_remove(at);
            self.turn += 1;
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut free = self.budget.lock();
        free.anywhere += self.threads;
        free.on_async_threads += usize::from(self.on_async_thread);
        let is_awaited = free.is_awaited();
        drop(free);
        // All, since only one of them knows that it is its turn.
        if is_awaited {
            self.budget.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_async_thread_is_always_left() {
        let budget = ComputeBudget::new(4, 3);
        let permits: Vec<_> = std::iter::from_fn(|| budget.try_acquire_async()).collect();
        assert_eq!(permits.len(), 2);
        drop(permits);
        assert!(budget.try_acquire_async().is_some());
    }

    #[test]
    fn async_threads_and_workers_share_the_machine() {
        let budget = ComputeBudget::new(1, 8);
        let permit = budget.acquire(1);
        assert!(budget.try_acquire_async().is_none());
        drop(permit);
        assert!(budget.try_acquire_async().is_some());
    }

    #[test]
    fn one_that_needs_every_thread_is_not_overtaken() {
        let budget = ComputeBudget::new(2, 1);
        let first = budget.acquire(1);
        std::thread::scope(|scope| {
            let all = scope.spawn(|| drop(budget.acquire(2)));
            while !budget.lock().is_awaited() {
                std::thread::yield_now();
            }
            let after = scope.spawn(|| drop(budget.acquire(1)));
            while budget.lock().last < 3 {
                std::thread::yield_now();
            }
            assert!(!all.is_finished() && !after.is_finished());
            drop(first);
        });
        assert_eq!(budget.lock().anywhere, 2);
    }

    #[test]
    fn who_gives_up_lets_the_next_one_go() {
        let budget = ComputeBudget::new(1, 8);
        let first = budget.acquire(1);
        let now = Instant::now();
        assert!(budget.acquire_until(1, now).is_none(), "its turn is next");
        std::thread::scope(|scope| {
            let next = scope.spawn(|| drop(budget.acquire(1)));
            while !budget.lock().is_awaited() {
                std::thread::yield_now();
            }
            assert!(budget.acquire_until(1, now).is_none(), "it is behind");
            let last = scope.spawn(|| drop(budget.acquire(1)));
            while budget.lock().last < 5 {
                std::thread::yield_now();
            }
            assert!(!next.is_finished() && !last.is_finished());
            drop(first);
        });
        assert!(budget.acquire_until(1, now).is_some());
        assert!(budget.try_acquire_async().is_some(), "nobody waits");
    }
}
