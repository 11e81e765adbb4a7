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

/// The failures of one model's versions.
#[derive(Debug, Default)]
pub struct Tries(BTreeMap<Version, Try>);

#[derive(Debug)]
struct Try {
    origin: Origin,
    error: Arc<Error>,
    count: u32,
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
        let again = error.passes().then(|| now + pause.min(LONGEST_PAUSE));
        let tried = Try {
            origin,
            error,
            count,
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

    /// What failed for want of memory need not wait any longer.
    pub fn memory_is_freed(&mut self, now: Instant) {
        for tried in self.0.values_mut() {
            if tried.error.is_out_of_memory() {
                tried.again = Some(now);
            }
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
}
