//! How one model's requests queue and share runs: what its owner set, else what the server says.

use std::time::Duration;

use super::batcher::{LevelRules, Rules, Size};
use super::cost::{Bounds, Filling};
use super::lane::Split;
use crate::config::InferenceConfig;
use crate::repository::manifest::ModelManifest;
use crate::repository::scheduling::{QueuePolicy, Scheduling, TimeoutAction};

/// The most rows of a batch, where nobody says otherwise.
pub const MOST_BATCH_ROWS: usize = 1024;
/// A batch runs for at most this part of the latency target: while one runs, the next request waits for its end.
const RUNS_OF_TARGET: u32 = 2;

/// What goes for models that do not say otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// What may wait for each model.
    pub queue: Size,
    pub latency_target: Option<Duration>,
}

impl Defaults {
    /// As configured, where `fitting_bytes` are what the machine has for a queue.
    pub fn new(inference: &InferenceConfig, fitting_bytes: usize) -> Defaults {
        Defaults {
            queue: Size {
                rows: inference.queue_rows,
                bytes: inference.queue_bytes.unwrap_or(fitting_bytes),
            },
            latency_target: inference.latency_target,
        }
    }
}

/// How requests of a model queue and share runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knobs {
    pub queue: Size,
    pub latency_target: Option<Duration>,
    /// As the owner set them.
    pub set: Scheduling,
}

impl Knobs {
    /// What goes for this model.
    pub fn new(manifest: &ModelManifest, defaults: &Defaults) -> Knobs {
        let rows = manifest.queue_rows.map_or(defaults.queue.rows, Into::into);
        let set = manifest.scheduling();
        Knobs {
            queue: Size {
                rows,
                bytes: defaults.queue.bytes,
            },
            latency_target: set.latency_target.or(defaults.latency_target),
            set,
        }
    }

    /// The most rows of one run.
    pub fn most_rows(&self) -> usize {
        let set = self.set.max_batch_rows;
        set.unwrap_or(MOST_BATCH_ROWS).min(self.queue.rows)
    }

    /// How long requests may wait for others to fill their batch.
    pub fn delay(&self) -> Duration {
        self.set.max_queue_delay.unwrap_or_default()
    }

    /// What bounds batches, whatever they cost.
    pub fn bounds(&self) -> Bounds {
        let longest = self.latency_target.map(|target| target / RUNS_OF_TARGET);
        let preferred = self.set.preferred_batch_rows.last().copied();
        let filling = match (self.delay().is_zero(), preferred) {
            (false, _) => Filling::Always("max_queue_delay_us"),
            (true, Some(_)) => Filling::Always("preferred_batch_rows"),
            (true, None) => Filling::AsMeasured,
        };
        let most = match (self.set.max_batch_rows, preferred) {
            (None, Some(preferred)) => preferred.min(self.most_rows()),
            _ => self.most_rows(),
        };
        Bounds {
            most_rows: most,
            longest,
            filling,
        }
    }

    /// How the machine's threads are shared out, where the owner says so: what is not said follows from the rest.
    pub fn split(&self, machine: usize) -> Option<Split> {
        let (workers, threads) = (self.set.instances, self.set.threads_per_instance);
        workers.or(threads)?;
        let machine = machine.max(1);
        let share = |of: Option<usize>| (machine / of.unwrap_or(1)).max(1);
        Some(Split {
            workers: workers.unwrap_or_else(|| share(threads)),
            threads: threads.unwrap_or_else(|| share(workers)).min(machine),
        })
    }

    /// How many levels of priority there are.
    pub fn levels(&self) -> usize {
        self.set.priority_levels.max(1)
    }

    /// The level of a request with this priority, the first is 0: what is none of the levels means the default.
    pub fn level(&self, priority: Option<u32>) -> usize {
        let levels = self.levels();
        let asked = priority.and_then(|priority| usize::try_from(priority).ok());
        let asked = asked.filter(|priority| (1..=levels).contains(priority));
        asked.unwrap_or_else(|| self.set.default_level()) - 1
    }

    /// What goes for the requests of a level.
    pub fn policy(&self, level: usize) -> QueuePolicy {
        self.set.policy(level + 1)
    }

    /// What the queue goes by.
    pub fn rules(&self) -> Rules {
        let level = |level| {
            let policy = self.policy(level);
            let yields = policy.timeout_action == TimeoutAction::Delay;
            LevelRules {
                most_rows: policy.max_queue_rows,
                yields_after: policy.default_timeout.filter(|_| yields),
            }
        };
        Rules {
            most: self.queue,
            levels: (0..self.levels()).map(level).collect(),
            delay: self.delay(),
            preferred: self.set.preferred_batch_rows.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knobs(text: &str) -> Knobs {
        let manifest = ModelManifest::parse(text).expect("it is valid");
        let queue = Size {
            rows: 100,
            bytes: 1000,
        };
        let latency_target = Some(Duration::from_millis(50));
        Knobs::new(
            &manifest,
            &Defaults {
                queue,
                latency_target,
            },
        )
    }

    #[test]
    fn threads_are_shared_out_as_the_owner_says() {
        let check = |text: &str, expected: Option<(usize, usize)>| {
            let split = knobs(text).split(8);
            let split = split.map(|Split { workers, threads }| (workers, threads));
            assert_eq!(split, expected, "{text}");
        };
        check("", None);
        check("instances = 2", Some((2, 4)));
        check("threads_per_instance = 3", Some((2, 3)));
        check("instances = 20", Some((20, 1)));
        check("threads_per_instance = 20", Some((1, 8)));
        check("instances = 3\nthreads_per_instance = 2", Some((3, 2)));
    }

    #[test]
    fn a_priority_that_is_no_level_means_the_default() {
        let three = knobs("priority_levels = 3\ndefault_priority_level = 3");
        let levels = [None, Some(0), Some(1), Some(2), Some(3), Some(4)];
        assert_eq!(levels.map(|level| three.level(level)), [2, 2, 0, 1, 2, 2]);
        assert_eq!(levels.map(|level| knobs("").level(level)), [0; 6]);
    }

    #[test]
    fn who_decides_how_large_batches_are_is_told() {
        let check = |text: &str, rows: usize, filling: Filling| {
            let bounds = knobs(text).bounds();
            assert_eq!(
                (bounds.most_rows, bounds.filling),
                (rows, filling),
                "{text}"
            );
        };
        check("", 100, Filling::AsMeasured);
        check("max_batch_rows = 8", 8, Filling::AsMeasured);
        check(
            "preferred_batch_rows = [4, 8]",
            8,
            Filling::Always("preferred_batch_rows"),
        );
        check(
            "max_batch_rows = 16\nmax_queue_delay_us = 100",
            16,
            Filling::Always("max_queue_delay_us"),
        );
        let target = knobs("latency_target_ms = 20").bounds().longest;
        assert_eq!(target, Some(Duration::from_millis(10)));
        let default = knobs("").bounds().longest;
        assert_eq!(default, Some(Duration::from_millis(25)));
    }
}
