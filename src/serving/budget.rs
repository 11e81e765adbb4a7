//! The machine's compute, shared by all models: at any moment no more runs than there are inference threads.
//!
//! Every model has workers enough to use the whole machine when it is alone; together they must not use more.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many runs may go on at once.
#[derive(Debug)]
pub struct ComputeBudget {
    threads: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// The right to run; given back on drop.
#[derive(Debug)]
pub struct Permit<'a> {
    budget: &'a ComputeBudget,
}

impl ComputeBudget {
    /// A budget of `threads` runs at once.
    pub fn new(threads: usize) -> Self {
        Self {
            threads,
            free: Mutex::new(threads),
            freed: Condvar::new(),
        }
    }

    /// How many runs may go on at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Waits for a permit.
    pub fn acquire(&self) -> Permit<'_> {
        let mut free = self.lock();
        while *free == 0 {
            free = self
                .freed
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Permit { budget: self }
    }

    /// A permit if one is free now.
    pub fn try_acquire(&self) -> Option<Permit<'_>> {
        let mut free = self.lock();
        *free = free.checked_sub(1)?;
        Some(Permit { budget: self })
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.budget.lock() += 1;
        self.budget.freed.notify_one();
    }
}
