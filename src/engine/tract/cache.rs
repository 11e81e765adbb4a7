//! The plans that were made for concrete shapes and values: kept while they are in use, bounded in number and bytes.
//!
//! All models share one cache, and the plan that was used least recently goes first. Whoever needs a plan that
//! another thread is making waits for it rather than making it twice. That a plan cannot be made is kept for a while:
//! it may have been for want of memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::graph::Plan;
use crate::telemetry::metrics::PlanCacheMetrics;
use crate::tensor::shape::Shape;

/// What a cache may hold at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub plans: usize,
    pub bytes: usize,
    /// How long it is believed that a plan cannot be made.
    pub failures: Duration,
}

/// What a plan was made for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The model, by a number of its own.
    pub model: u64,
    pub shapes: Vec<Shape>,
    /// The inputs that are constants in the plan, by place and value.
    pub frozen: Vec<(usize, Bytes)>,
}

/// A plan, or why there can be none.
pub type Made = Result<Arc<Plan>, String>;

/// A cache of plans.
pub struct PlanCache {
    bounds: Bounds,
    metrics: PlanCacheMetrics,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    bytes: usize,
    /// Counts the uses, so that each has its place in time.
    uses: u64,
}

struct Entry {
    made: Arc<OnceLock<Made>>,
    began: Instant,
    bytes: usize,
    last_used: u64,
}

impl PlanCache {
    /// An empty cache.
    pub fn new(bounds: Bounds, metrics: PlanCacheMetrics) -> PlanCache {
        PlanCache {
            bounds,
            metrics,
            entries: Mutex::default(),
        }
    }

    /// The plan for `key`, if it has been made.
    pub fn get(&self, key: &Key) -> Option<Made> {
        let mut entries = self.lock();
        entries.drop_failure(key, self.bounds.failures);
        let made = entries.touch(key).and_then(|made| made.get().cloned());
        self.metrics.looked_up(made.is_some());
        made
    }

    /// Whether there is a plan for `key`. Counts as no use of it.
    pub fn has(&self, key: &Key) -> bool {
        let entries = self.lock();
        let made = entries.by_key.get(key).and_then(|entry| entry.made.get());
        made.is_some_and(Result::is_ok)
    }

    /// The plan for `key`, made now if need be, which takes about `bytes`.
    pub fn get_or_make(&self, key: Key, bytes: usize, make: impl FnOnce() -> Made) -> Made {
        // What is constant in the plan is held by it and by the key.
        let bytes = bytes + 2 * key.frozen.iter().map(|(_, data)| data.len()).sum::<usize>();
        let mut entries = self.lock();
        entries.drop_failure(&key, self.bounds.failures);
        let (made, is_new) = entries.entry(key, bytes);
        drop(entries);
        self.metrics.looked_up(!is_new);
        let result = made.get_or_init(make).clone();
        if is_new {
            self.shrink();
        }
        result
    }

    /// Forgets the plans of a model that is gone.
    pub fn forget(&self, model: u64) {
        let mut entries = self.lock();
        entries.by_key.retain(|key, _| key.model != model);
        entries.bytes = entries.by_key.values().map(|entry| entry.bytes).sum();
        self.metrics.holds(entries.by_key.len(), entries.bytes);
    }

    fn shrink(&self) {
        let mut entries = self.lock();
        let Bounds { plans, bytes, .. } = self.bounds;
        // One plan is always kept, however large: without it every request would make it anew.
        while entries.by_key.len() > plans || (entries.bytes > bytes && entries.by_key.len() > 1) {
            let oldest = entries
                .by_key
                .iter()
                .min_by_key(|(_, entry)| entry.last_used);
            let Some(oldest) = oldest.map(|(key, _)| key.clone()) else {
                break;
            };
            entries.remove(&oldest);
        }
        self.metrics.holds(entries.by_key.len(), entries.bytes);
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn remove(&mut self, key: &Key) {
        if let Some(entry) = self.by_key.remove(key) {
            self.bytes -= entry.bytes;
        }
    }

    /// Forgets that the plan for `key` could not be made, if that was so long ago.
    fn drop_failure(&mut self, key: &Key, kept_for: Duration) {
        let failed = |entry: &Entry| matches!(entry.made.get(), Some(Err(_)));
        let entry = self.by_key.get(key).filter(|entry| failed(entry));
        if entry.is_some_and(|entry| entry.began.elapsed() >= kept_for) {
            self.remove(key);
        }
    }

    fn touch(&mut self, key: &Key) -> Option<&Arc<OnceLock<Made>>> {
        self.uses += 1;
        let entry = self.by_key.get_mut(key)?;
        entry.last_used = self.uses;
        Some(&entry.made)
    }

    /// The entry's place for its plan, and whether it was not there before.
    fn entry(&mut self, key: Key, bytes: usize) -> (Arc<OnceLock<Made>>, bool) {
        if let Some(made) = self.touch(&key) {
            return (made.clone(), false);
        }
        let made = Arc::new(OnceLock::new());
        let entry = Entry {
            made: made.clone(),
            began: Instant::now(),
            bytes,
            last_used: self.uses,
        };
        self.by_key.insert(key, entry);
        self.bytes += bytes;
        (made, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(rows: usize) -> Key {
        let shapes = vec![Shape::new(vec![rows]).expect("small shapes fit")];
        Key {
            model: 1,
            shapes,
            frozen: Vec::new(),
        }
    }

    fn cache(plans: usize, bytes: usize) -> PlanCache {
        let failures = Duration::MAX;
        let bounds = Bounds {
            plans,
            bytes,
            failures,
        };
        PlanCache::new(bounds, PlanCacheMetrics::default())
    }

    fn fail() -> Made {
        Err("no".to_owned())
    }

    #[test]
    fn what_was_made_is_kept_also_when_it_failed() {
        let cache = cache(2, 100);
        assert!(cache.get(&key(1)).is_none());
        assert!(cache.get_or_make(key(1), 1, fail).is_err());
        assert!(cache.get(&key(1)).is_some_and(|made| made.is_err()));
        assert!(!cache.has(&key(1)), "a failure is no plan");
        cache
            .get_or_make(key(1), 1, || panic!("it is made once"))
            .expect_err("it failed");
    }

    #[test]
    fn the_least_recently_used_goes_first_by_number_and_by_bytes() {
        for cache in [cache(2, 100), cache(9, 20)] {
            cache.get_or_make(key(1), 10, fail).expect_err("it failed");
            cache.get_or_make(key(2), 10, fail).expect_err("it failed");
            assert!(cache.get(&key(1)).is_some());
            cache.get_or_make(key(3), 10, fail).expect_err("it failed");
            let is_kept = |rows| cache.lock().by_key.contains_key(&key(rows));
            assert!(is_kept(1) && !is_kept(2) && is_kept(3));
        }
    }

    #[test]
    fn a_failure_is_not_kept_for_ever() {
        let mut cache = cache(2, 100);
        cache.bounds.failures = Duration::ZERO;
        cache.get_or_make(key(1), 10, fail).expect_err("it failed");
        assert!(cache.get(&key(1)).is_none());
        assert_eq!(cache.lock().bytes, 0);
    }

    #[test]
    fn what_is_constant_in_a_plan_counts() {
        let cache = cache(2, 100);
        let frozen = vec![(0, Bytes::from_static(&[0; 30]))];
        let key = Key { frozen, ..key(1) };
        cache.get_or_make(key, 10, fail).expect_err("it failed");
        assert_eq!(cache.lock().bytes, 70);
    }

    #[test]
    fn a_model_that_is_gone_leaves_nothing() {
        let cache = cache(2, 100);
        cache.get_or_make(key(1), 10, fail).expect_err("it failed");
        cache.forget(1);
        assert!(cache.get(&key(1)).is_none());
        assert_eq!(cache.lock().bytes, 0);
    }
}
