//! What was written to disk, what clients saw, and what should not have been.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// A generation's file: where it was, and whether it may ever answer.
#[derive(Debug, Clone)]
pub struct Written {
    pub model: String,
    pub version: u64,
    pub is_good: bool,
}

/// What clients saw of one model.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// By status.
    pub answers: BTreeMap<u16, u64>,
    /// Requests of which the client cannot know how the server counted them: it left, or the answer came from before or
    /// behind the model.
    pub unsure: u64,
}

#[derive(Default)]
pub struct Books {
    next_generation: AtomicI64,
    written: Mutex<HashMap<i64, Written>>,
    seen: Mutex<BTreeMap<String, Seen>>,
    /// What came of requests that nothing is wrong with, by status.
    of_sound: Mutex<BTreeMap<u16, u64>>,
    violations: Mutex<Vec<String>>,
}

/// More would tell nothing new.
const MOST_VIOLATIONS: usize = 10;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

impl Books {
    /// Enters a file before it is written.
    pub fn enter(&self, written: Written) -> i64 {
        let generation = self.next_generation.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.written).insert(generation, written);
        generation
    }

    pub fn written(&self, generation: i64) -> Option<Written> {
        lock(&self.written).get(&generation).cloned()
    }

    pub fn saw(&self, model: &str, status: u16) {
        let mut seen = lock(&self.seen);
        let answers = &mut seen.entry(model.to_owned()).or_default().answers;
        *answers.entry(status).or_default() += 1;
    }

    pub fn saw_of_sound(&self, status: u16) {
        *lock(&self.of_sound).entry(status).or_default() += 1;
    }

    /// The engine fails two runs of a hundred. Were those to fail who share a run with a request that breaks it, there
    /// would be more.
    pub fn check_that_the_sound_are_spared(&self) {
        let of_sound = lock(&self.of_sound);
        let count = |status| of_sound.get(&status).copied().unwrap_or(0);
        let (failed, answered) = (count(500), count(200));
        println!("of sound requests {answered} were answered and {failed} failed");
        assert!(
            answered < 2000 || failed * 100 < answered * 3,
            "too many failed: those who share a run with what breaks it"
        );
    }

    pub fn unsure(&self, model: &str) {
        lock(&self.seen).entry(model.to_owned()).or_default().unsure += 1;
    }

    pub fn seen(&self) -> BTreeMap<String, Seen> {
        lock(&self.seen).clone()
    }

    pub fn violation(&self, what: String) {
        let mut violations = lock(&self.violations);
        if violations.len() < MOST_VIOLATIONS {
            violations.push(what);
        }
    }

    pub fn violations(&self) -> Vec<String> {
        lock(&self.violations).clone()
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let mut statuses = BTreeMap::<u16, u64>::new();
        let mut unsure = 0;
        for seen in self.seen().values() {
            unsure += seen.unsure;
            for (status, count) in &seen.answers {
                *statuses.entry(*status).or_default() += count;
            }
        }
        let files = self.next_generation.load(Ordering::Relaxed);
        format!("{files} files were written; answers by status: {statuses:?}, and {unsure} unsure")
    }

    /// A run of some length in which nothing was answered or refused has tested nothing.
    pub fn check_that_all_was_seen(&self, duration: Duration) {
        if duration < Duration::from_secs(5) {
            return;
        }
        for status in [200, 400, 404, 413, 429, 500, 504] {
            let count: u64 = self
                .seen()
                .values()
                .filter_map(|seen| seen.answers.get(&status))
                .sum();
            assert!(count > 0, "no request was answered with {status}");
        }
    }
}
