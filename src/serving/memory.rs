//! What of the memory is whose: a ledger of what the models hold, what is promised to those that are being loaded, and
//! what is kept for requests. A load that does not fit is refused before it takes anything.
//!
//! It counts and never allocates; what the process really takes is read where models are loaded, so that what nobody
//! has accounted for counts as well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use crate::allocator;
use crate::error::{Error, Result};
use crate::telemetry::metrics::MemoryReadings;
use crate::telemetry::process;

/// Requests are kept at most this part of the memory, whatever their own bounds allow: an owner who lets bodies take more
/// than there is wants models all the same.
const MOST_FOR_REQUESTS: u64 = 2;

/// What is divided.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// All the memory that there is for the process.
    pub limit: u64,
    /// What bodies, queues and runs may take of it.
    pub requests: u64,
    /// What the process takes by itself.
    pub process: u64,
}

/// Reads how many bytes something takes now.
pub type Read = Box<dyn Fn() -> u64 + Send + Sync>;

/// Divides the memory among models.
pub struct Ledger {
    bounds: Bounds,
    /// What the process takes now, all in all.
    taken: Read,
    /// What requests take of it.
    in_flight: Read,
    promised: Mutex<Promised>,
    /// One load at a time is on the scale.
    scale: Mutex<()>,
    /// Wakes whoever waits for others to have loaded.
    settled: Condvar,
    freed: AtomicU64,
}

/// Bytes that are not to be had any more.
#[derive(Debug, Default)]
struct Promised {
    models: u64,
    loading: u64,
}

impl Ledger {
    /// The memory of this machine or container, of which requests may take so much and take that now.
    pub fn of_machine(requests: u64, in_flight: Read) -> Arc<Ledger> {
        let anonymous = || process::anonymous_bytes().unwrap_or(0);
        let bounds = Bounds {
            limit: process::total_bytes().unwrap_or(u64::MAX),
            requests,
            process: anonymous(),
        };
        Ledger::new(bounds, Box::new(anonymous), in_flight)
    }

    /// A ledger over these bounds, of which the process takes what `taken` reads, and requests in it `in_flight`.
    pub fn new(bounds: Bounds, taken: Read, in_flight: Read) -> Arc<Ledger> {
        let requests = bounds.requests.min(bounds.limit / MOST_FOR_REQUESTS);
        Arc::new(Ledger {
            bounds: Bounds { requests, ..bounds },
            taken,
            in_flight,
            promised: Mutex::default(),
            scale: Mutex::default(),
            settled: Condvar::new(),
            freed: AtomicU64::new(0),
        })
    }

    /// A ledger that counts and refuses nothing.
    pub fn boundless() -> Arc<Ledger> {
        let bounds = Bounds {
            limit: u64::MAX,
            ..Bounds::default()
        };
        Ledger::new(bounds, Box::new(|| 0), Box::new(|| 0))
    }

    /// Promises so many bytes to a load, or says why not. While others load it is waited for what they leave, until the
    /// deadline.
    pub fn promise(self: &Arc<Ledger>, bytes: u64, deadline: Instant) -> Result<Promise> {
        let mut promised = self.lock();
        loop {
            if bytes <= self.free(&promised) {
                promised.loading = promised.loading.saturating_add(bytes);
                let ledger = self.clone();
                return Ok(Promise { ledger, bytes });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if promised.loading == 0 || left.is_zero() {
                return Err(self.refusal(&format!("about {}", mib(bytes)), &promised));
            }
            let waited = self.settled.wait_timeout(promised, left);
            promised = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What a process that tries a model out beside this one may take, of so much that is available now: no more than
    /// models may, and not what was promised to others and not taken yet.
    pub fn for_trial(&self, available: u64) -> u64 {
        let promised = self.lock();
        let available = available.saturating_sub(promised.loading);
        available.min(self.free(&promised))
    }

    /// Begins to measure what the process takes more, unless another load is being measured: that one may never end.
    pub fn scale(&self) -> Option<Scale<'_>> {
        let _turn = match self.scale.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let (ledger, before) = (self, (self.taken)());
        Some(Scale {
            ledger,
            before,
            _turn,
        })
    }

    /// The error of a load that needs so much in words, with all the numbers.
    pub fn refuse(&self, needed: &str) -> Error {
        self.refusal(needed, &self.lock())
    }

    /// Counts up whenever a model gives memory back: what was refused for want of it may be tried again.
    pub fn freed(&self) -> u64 {
        self.freed.load(Ordering::Acquire)
    }

    /// The numbers for the metrics.
    pub fn readings(&self) -> MemoryReadings {
        let promised = self.lock();
        MemoryReadings {
            limit: self.bounds.limit,
            models: promised.models,
            loading: promised.loading,
            requests: self.bounds.requests,
        }
    }

    /// What is left for further models.
    pub fn free_bytes(&self) -> u64 {
        self.free(&self.lock())
    }

    /// What is neither taken nor promised nor kept for requests.
    fn free(&self, promised: &Promised) -> u64 {
        let Bounds {
            limit, requests, ..
        } = self.bounds;
        limit
            .saturating_sub(requests)
            .saturating_sub(self.used(promised))
    }

    /// What the process takes by its accounts, or by what it really takes where that is more. Requests have their own
    /// part.
    fn used(&self, promised: &Promised) -> u64 {
        let Promised { models, loading } = promised;
        let accounted = [*models, *loading]
            .into_iter()
            .fold(self.bounds.process, u64::saturating_add);
        accounted.max((self.taken)().saturating_sub((self.in_flight)()))
    }

    fn refusal(&self, needed: &str, promised: &Promised) -> Error {
        let Promised { models, loading } = *promised;
        let Bounds {
            limit, requests, ..
        } = self.bounds;
        let beside = self
            .used(promised)
            .saturating_sub(models)
            .saturating_sub(loading);
        let being_loaded = match loading {
            0 => String::new(),
            _ => format!(", models that are being loaded {}", mib(loading)),
        };
        Error::out_of_memory(format!(
            "loading it takes {needed} of memory, and {} are free: of {} models hold {}{being_loaded}, the server itself \
             takes {}, and {} are kept for requests; raise the memory limit, unload a model, or lower \
             limits.bodies_in_flight_bytes",
            mib(self.free(promised)),
            mib(limit),
            mib(models),
            mib(beside),
            mib(requests),
        ))
    }

    fn lock(&self) -> MutexGuard<'_, Promised> {
        self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the process took when a load began.
pub struct Scale<'a> {
    ledger: &'a Ledger,
    before: u64,
    _turn: MutexGuard<'a, ()>,
}

impl Scale<'_> {
    /// What it takes more by now. Requests that run meanwhile make it less exact.
    pub fn added(self) -> u64 {
        allocator::give_back();
        (self.ledger.taken)().saturating_sub(self.before)
    }
}

/// Memory that a load may take. Dropping it gives it back.
pub struct Promise {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Promise {
    /// The load has ended well, and the model holds so much.
    pub fn keep(self, bytes: u64) -> Held {
        let mut promised = self.ledger.lock();
        promised.models = promised.models.saturating_add(bytes);
        drop(promised);
        Held {
            ledger: self.ledger.clone(),
            bytes,
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut promised = self.ledger.lock();
        promised.loading = promised.loading.saturating_sub(self.bytes);
        drop(promised);
        self.ledger.settled.notify_all();
    }
}

/// Memory that a model holds. It is dropped after the model.
pub struct Held {
    ledger: Arc<Ledger>,
    bytes: u64,
}

impl Held {
    /// How much that is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The allocators keep what they are given back, and the kernel counts it as taken.
        allocator::give_back();
        let mut promised = self.ledger.lock();
        promised.models = promised.models.saturating_sub(self.bytes);
        drop(promised);
        self.ledger.freed.fetch_add(1, Ordering::AcqRel);
        self.ledger.settled.notify_all();
    }
}

/// The bytes as people read them.
pub fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::thread;
    use std::time::Duration;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn ledger(requests: u64, taken: Read) -> Arc<Ledger> {
        let bounds = Bounds {
            limit: 512 * MIB,
            requests: requests * MIB,
            process: 32 * MIB,
        };
        Ledger::new(bounds, taken, Box::new(|| 0))
    }

    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_model_that_does_not_fit_beside_the_others_is_refused_with_the_numbers() -> Result<()> {
        let ledger = ledger(180, Box::new(|| 0));
        let held = ledger.promise(250 * MIB, now())?.keep(200 * MIB);
        let error = ledger.promise(150 * MIB, now()).err().expect("no place");
        assert!(error.is_out_of_memory());
        let told = error.public_message();
        for number in [
            "about 150 MiB",
            "100 MiB are free",
            "of 512 MiB",
            "models hold 200 MiB",
            "the server itself takes 32 MiB",
            "180 MiB are kept for requests",
        ] {
            assert!(told.contains(number), "{told}");
        }
        let before = ledger.freed();
        drop(held);
        assert!(ledger.freed() > before, "it may be tried again");
        ledger.promise(150 * MIB, now())?.keep(150 * MIB);
        Ok(())
    }

    #[test]
    fn a_load_that_fails_gives_back_what_it_was_promised() -> Result<()> {
        let ledger = ledger(0, Box::new(|| 0));
        drop(ledger.promise(480 * MIB, now())?);
        ledger.promise(480 * MIB, now()).map(drop)
    }

    #[test]
    fn requests_never_keep_more_than_half() -> Result<()> {
        let ledger = ledger(4096, Box::new(|| 0));
        ledger.promise(200 * MIB, now()).map(drop)
    }

    #[test]
    fn what_nobody_has_accounted_for_counts() -> Result<()> {
        let taken = Arc::new(AtomicU64::new(32 * MIB));
        let read = taken.clone();
        let ledger = ledger(0, Box::new(move || read.load(Ordering::Relaxed)));
        ledger.promise(400 * MIB, now())?;
        taken.store(200 * MIB, Ordering::Relaxed);
        assert!(ledger.promise(400 * MIB, now()).is_err());
        Ok(())
    }

    #[test]
    fn what_others_take_only_while_they_load_is_waited_for() -> Result<()> {
        let ledger = ledger(0, Box::new(|| 0));
        let first = ledger.promise(400 * MIB, now())?;
        assert!(
            ledger.promise(300 * MIB, now()).is_err(),
            "not without a wait"
        );
        let deadline = now() + Duration::from_secs(60);
        thread::scope(|scope| {
            let second = scope.spawn(|| ledger.promise(300 * MIB, deadline).map(drop));
            let held = first.keep(100 * MIB);
            let waited = second.join().expect("it does not panic");
            drop(held);
            waited
        })
    }

    #[test]
    fn only_one_load_at_a_time_is_measured() {
        let taken = Arc::new(AtomicU64::new(10 * MIB));
        let read = taken.clone();
        let ledger = ledger(0, Box::new(move || read.load(Ordering::Relaxed)));
        let scale = ledger.scale().expect("nothing is on it");
        assert!(ledger.scale().is_none(), "it would see the other's");
        taken.store(17 * MIB, Ordering::Relaxed);
        assert_eq!(scale.added(), 7 * MIB);
        assert!(ledger.scale().is_some());
    }

    #[test]
    fn a_trial_gets_what_models_may_take_and_nobody_was_promised() -> Result<()> {
        let ledger = ledger(180, Box::new(|| 0));
        assert_eq!(ledger.for_trial(1024 * MIB), 300 * MIB);
        assert_eq!(ledger.for_trial(250 * MIB), 250 * MIB);
        let promise = ledger.promise(100 * MIB, now())?;
        assert_eq!(ledger.for_trial(250 * MIB), 150 * MIB);
        promise.keep(40 * MIB);
        Ok(())
    }
}
