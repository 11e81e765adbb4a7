//! What was tried of a model and failed, so that it is not tried again until there is a reason to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::repository::{Origin, Version};

/// When what may pass by itself is tried again for the first time; each further time takes twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Memory that was given back shortens a pause to half, and to no more than this: what fails may give back some itself.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// The failures of one model's versions.
#[derive(Debug, Default)]
pub struct Tries(BTreeMap<Version, Try>);

#[derive(Debug)]
struct Try {
    origin: Origin,
    error: Arc<Error>,
    count: u32,
    /// Not sooner than this, whatever may have become better.
    soonest: Instant,
    /// When to try again, where the failure may pass by itself.
    again: Option<Instant>,
}

impl Tries {
    /// Why these files are not to be tried at `now`: they have failed as they are.
    pub fn failure(&self, version: Version, origin: &Origin, now: Instant) -> Option<Arc<Error>> {
        let tried = self
            .0
            .get(&version)
            .filter(|tried| tried.origin == *origin)?;
        let is_due = tried.again.is_some_and(|again| again <= now);
        (!is_due).then(|| tried.error.clone())
    }

    /// A version has failed.
    pub fn failed(&mut self, version: Version, origin: Origin, failure: (Arc<Error>, Instant)) {
        let (error, now) = failure;
        let before = self.0.get(&version).filter(|tried| tried.origin == origin);
        let count = before.map_or(0, |tried| tried.count.saturating_add(1));
        let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(count));
        let pause = pause.min(LONGEST_PAUSE);
        let again = error.passes().then(|| now + pause);
        let tried = Try {
            origin,
            error,
            count,
            soonest: now + (pause / 2).min(LONGEST_REST),
            again,
        };
        self.0.insert(version, tried);
    }

    /// A version serves as it should.
    pub fn succeeded(&mut self, version: Version) {
        self.0.remove(&version);
    }

    /// Forgets all other versions.
    pub fn keep(&mut self, is_kept: impl Fn(Version) -> bool) {
        self.0.retain(|version, _| is_kept(*version));
    }

    /// Whether something failed for want of memory.
    pub fn waits_for_memory(&self) -> bool {
        self.0.values().any(|tried| tried.error.is_out_of_memory())
    }

    /// What failed for want of memory need not wait any longer than for its rest.
    pub fn memory_is_freed(&mut self, now: Instant) {
        for tried in self.0.values_mut() {
            if tried.error.is_out_of_memory() {
                tried.again = Some(now.max(tried.soonest));
            }
        }
    }

    /// Nothing is tried again before `until`.
    pub fn rest(&mut self, until: Instant) {
        for tried in self.0.values_mut() {
            tried.soonest = tried.soonest.max(until);
            tried.again = tried.again.map(|again| again.max(until));
        }
    }

    /// When something is to be tried again, if anything is.
    pub fn again(&self) -> Option<Instant> {
        self.0.values().filter_map(|tried| tried.again).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::ModelFiles;
    use crate::repository::stamp::Stamp;

    fn origin(stamp: u64) -> Origin {
        let files = ModelFiles {
            stamps: BTreeMap::from([(1, Stamp::numbered(stamp))]),
            ..ModelFiles::default()
        };
        files.origin(1)
    }

    #[test]
    fn what_failed_is_not_tried_again_until_its_files_change() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        let error = Arc::new(Error::internal("the graph has a cycle"));
        tries.failed(1, origin(1), (error, now));
        let later = now + Duration::from_secs(1_000_000);
        assert!(tries.failure(1, &origin(1), later).is_some());
        assert!(tries.failure(1, &origin(2), now).is_none());
        assert_eq!(tries.again(), None);
    }

    #[test]
    fn what_may_pass_is_tried_again_ever_more_seldom() {
        let (mut tries, mut now) = (Tries::default(), Instant::now());
        let error = Arc::new(Error::unavailable("no memory").with_retry_after(FIRST_PAUSE));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            tries.failed(1, origin(1), (error.clone(), now));
            let again = tries.again().expect("it may pass");
            assert!(tries.failure(1, &origin(1), now).is_some(), "not at once");
            assert!(tries.failure(1, &origin(1), again).is_none());
            pauses.push((again - now).as_secs());
            now = again;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
    }

    #[test]
    fn memory_that_is_given_back_shortens_the_pause_of_what_failed_for_want_of_it() {
        let (mut tries, mut now) = (Tries::default(), Instant::now());
        let error = Arc::new(Error::out_of_memory("no memory"));
        let mut pauses = Vec::new();
        for _ in 0..8 {
            tries.failed(1, origin(1), (error.clone(), now));
            // As what has failed gives back what it held.
            tries.memory_is_freed(now);
            let again = tries.again().expect("it may pass");
            pauses.push((again - now).as_secs());
            now = again;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        tries.failed(1, origin(1), (error, now));
        let later = now + Duration::from_secs(60);
        tries.memory_is_freed(later);
        assert!(tries.failure(1, &origin(1), later).is_none(), "at once");
        let other = Error::unavailable("no disk").with_retry_after(FIRST_PAUSE);
        let mut tries = Tries::default();
        tries.failed(1, origin(1), (Arc::new(other), now));
        tries.memory_is_freed(now);
        assert_eq!(tries.again(), Some(now + FIRST_PAUSE), "it needs no memory");
    }

    #[test]
    fn nothing_is_tried_again_while_it_rests() {
        let (mut tries, now) = (Tries::default(), Instant::now());
        let error = Arc::new(Error::out_of_memory("no memory"));
        tries.failed(1, origin(1), (error, now));
        let later = now + Duration::from_secs(10);
        let until = later + Duration::from_secs(1);
        tries.rest(until);
        tries.memory_is_freed(later);
        assert!(tries.failure(1, &origin(1), later).is_some());
        assert_eq!(tries.again(), Some(until));
    }
}
