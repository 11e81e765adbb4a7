//! The machine's compute, shared by all models: at any moment no more runs than there are inference threads.
//!
//! Every model has workers enough to use the whole machine when it is alone; together they must not use more. Short
//! runs take place on the async threads, at most so many at once that one such thread is always left for probes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many runs may go on at once.
#[derive(Debug)]
pub struct ComputeBudget {
    threads: usize,
    free: Mutex<Free>,
    freed: Condvar,
}

#[derive(Debug)]
struct Free {
    /// Runs that may begin, wherever they are.
    anywhere: usize,
    /// Of these, how many may begin on async threads.
    on_async_threads: usize,
    /// Workers that wait for a permit; nobody overtakes them.
    waiting: usize,
}

/// The right to run; given back on drop.
#[derive(Debug)]
pub struct Permit<'a> {
    budget: &'a ComputeBudget,
    on_async_thread: bool,
}

impl ComputeBudget {
    /// A budget of `threads` runs at once, for a runtime with `async_threads` of its own.
    pub fn new(threads: usize, async_threads: usize) -> Self {
        let free = Free {
            anywhere: threads,
            on_async_threads: async_threads.saturating_sub(1),
            waiting: 0,
        };
        Self {
            threads,
            free: Mutex::new(free),
            freed: Condvar::new(),
        }
    }

    /// How many runs may go on at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Waits for a permit, on a thread that may wait.
    pub fn acquire(&self) -> Permit<'_> {
        let mut free = self.lock();
        free.waiting += 1;
        while free.anywhere == 0 {
            free = self
                .freed
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
        free.waiting -= 1;
        free.anywhere -= 1;
        Permit {
            budget: self,
            on_async_thread: false,
        }
    }

    /// A permit to run on an async thread, if one is free now.
    pub fn try_acquire_async(&self) -> Option<Permit<'_>> {
        let mut free = self.lock();
        if free.anywhere == 0 || free.on_async_threads == 0 || free.waiting > 0 {
            return None;
        }
        free.anywhere -= 1;
        free.on_async_threads -= 1;
        Some(Permit {
            budget: self,
            on_async_thread: true,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut free = self.budget.lock();
        free.anywhere += 1;
        free.on_async_threads += usize::from(self.on_async_thread);
        drop(free);
        self.budget.freed.notify_one();
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
        let permit = budget.acquire();
        assert!(budget.try_acquire_async().is_none());
        drop(permit);
        assert!(budget.try_acquire_async().is_some());
    }
}
