//! The keys of `model.toml` by which an owner decides how requests queue and share runs, which Triton's users know.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::config::validate::MOST_THREADS;

/// The most levels of priority that can be asked for.
const MOST_LEVELS: usize = 64;

/// What an owner may decide. Nothing is decided by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scheduling {
    pub max_batch_rows: Option<usize>,
    /// Ascending, each once.
    pub preferred_batch_rows: Vec<usize>,
    pub max_queue_delay: Option<Duration>,
    pub latency_target: Option<Duration>,
    /// Workers, and the threads of each; either follows from the other.
    pub instances: Option<usize>,
    pub threads_per_instance: Option<usize>,
    /// 0 where requests have no priorities.
    pub priority_levels: usize,
    pub default_priority_level: Option<usize>,
    pub queue_policy: QueuePolicy,
    pub priority_queue_policy: BTreeMap<usize, QueuePolicy>,
}

impl Scheduling {
    /// The level of requests that name none: the one in the middle, unless the owner says otherwise.
    pub fn default_level(&self) -> usize {
        let levels = self.priority_levels.max(1);
        self.default_priority_level
            .unwrap_or(levels.div_ceil(2))
            .clamp(1, levels)
    }

    /// What goes for a level, the first of which is 1.
    pub fn policy(&self, level: usize) -> QueuePolicy {
        let own = self.priority_queue_policy.get(&level);
        *own.unwrap_or(&self.queue_policy)
    }
}

/// What becomes of requests that wait for long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueuePolicy {
    #[serde(default)]
    pub timeout_action: TimeoutAction,
    /// How long a request may wait before that.
    #[serde(default, rename = "default_timeout_us", deserialize_with = "micros")]
    pub default_timeout: Option<Duration>,
    /// Whether a request's own deadline takes the place of a longer time.
    #[serde(default)]
    pub allow_timeout_override: bool,
    /// How many rows may wait under this policy.
    #[serde(default, deserialize_with = "count")]
    pub max_queue_rows: Option<usize>,
}

/// What follows once a request has waited for too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeoutAction {
    /// It is refused.
    #[default]
    Reject,
    /// Those that wait with it go first.
    Delay,
}

/// The keys as they are written, beside the others of a manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written<'a> {
    pub max_batch_rows: Option<NonZeroUsize>,
    pub preferred_batch_rows: &'a [NonZeroUsize],
    pub max_queue_delay_us: Option<u64>,
    pub latency_target_ms: Option<u64>,
    pub instances: Option<NonZeroUsize>,
    pub threads_per_instance: Option<NonZeroUsize>,
    pub priority_levels: usize,
    pub default_priority_level: Option<usize>,
    pub queue_policy: QueuePolicy,
    pub priority_queue_policy: Option<&'a BTreeMap<String, QueuePolicy>>,
}

impl Written<'_> {
    /// The keys, checked against each other; the error names the one that is wrong.
    pub fn checked(self) -> Result<Scheduling, String> {
        let mut preferred: Vec<usize> = Vec::new();
        preferred.extend(self.preferred_batch_rows.iter().map(|rows| rows.get()));
        preferred.sort_unstable();
        preferred.dedup();
        let most = self.max_batch_rows.map(NonZeroUsize::get);
        if let (Some(most), Some(largest)) = (most, preferred.last())
            && *largest > most
        {
            return Err(format!(
                "preferred_batch_rows: {largest} is more than max_batch_rows = {most}"
            ));
        }
        let levels = self.priority_levels;
        if levels > MOST_LEVELS {
            return Err(format!(
                "priority_levels: expected at most {MOST_LEVELS}, got {levels}"
            ));
        }
        let is_level = |level: &usize| (1..=levels).contains(level);
        let expected = match levels {
            0 => "priority_levels is not set".to_owned(),
            levels => format!("expected a level from 1 to {levels}"),
        };
        if let Some(level) = self.default_priority_level.filter(|level| !is_level(level)) {
            return Err(format!("default_priority_level: {expected}, got {level}"));
        }
        let mut policies = BTreeMap::new();
        for (level, policy) in self.priority_queue_policy.into_iter().flatten() {
            let number = level.parse().ok().filter(is_level);
            let number = number
                .ok_or_else(|| format!("priority_queue_policy: {expected}, got '{level}'"))?;
            policies.insert(number, *policy);
        }
        let counts = [
            ("instances", self.instances),
            ("threads_per_instance", self.threads_per_instance),
        ];
        for (key, count) in counts {
            if let Some(count) = count.filter(|count| count.get() > MOST_THREADS) {
                return Err(format!(
                    "{key}: expected at most {MOST_THREADS}, got {count}"
                ));
            }
        }
        if self.latency_target_ms == Some(0) {
            return Err("latency_target_ms: expected at least 1, got 0".to_owned());
        }
        Ok(Scheduling {
            max_batch_rows: most,
            preferred_batch_rows: preferred,
            max_queue_delay: self.max_queue_delay_us.map(Duration::from_micros),
            latency_target: self.latency_target_ms.map(Duration::from_millis),
            instances: self.instances.map(NonZeroUsize::get),
            threads_per_instance: self.threads_per_instance.map(NonZeroUsize::get),
            priority_levels: levels,
            default_priority_level: self.default_priority_level,
            queue_policy: self.queue_policy,
            priority_queue_policy: policies,
        })
    }
}

fn micros<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    // Triton's 0 means that there is none.
    let micros = u64::deserialize(value)?;
    Ok((micros > 0).then(|| Duration::from_micros(micros)))
}

fn count<'de, D: Deserializer<'de>>(value: D) -> Result<Option<usize>, D::Error> {
    let count = usize::deserialize(value)?;
    Ok((count > 0).then_some(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::manifest::ModelManifest;

    fn read(text: &str) -> Result<Scheduling, String> {
        ModelManifest::parse(text).map(|manifest| manifest.scheduling())
    }

    #[test]
    fn policies_are_those_of_the_level_else_those_of_the_model() {
        let text = "priority_levels = 3\n\
            queue_policy = { default_timeout_us = 500, max_queue_rows = 0 }\n\
            [priority_queue_policy.1]\ntimeout_action = \"delay\"\nmax_queue_rows = 7\n";
        let read = read(text).expect("it is valid");
        assert_eq!(read.default_level(), 2);
        let own = read.policy(1);
        assert_eq!(own.timeout_action, TimeoutAction::Delay);
        assert_eq!((own.default_timeout, own.max_queue_rows), (None, Some(7)));
        let common = read.policy(3);
        assert_eq!(common.timeout_action, TimeoutAction::Reject);
        assert_eq!(common.default_timeout, Some(Duration::from_micros(500)));
        assert_eq!(common.max_queue_rows, None, "0 is no bound");
    }

    #[test]
    fn preferred_sizes_are_put_in_order() {
        let read = read("preferred_batch_rows = [8, 2, 8]").expect("it is valid");
        assert_eq!(read.preferred_batch_rows, [2, 8]);
    }

    #[test]
    fn mistakes_name_the_key_and_what_is_valid() {
        for (text, expected) in [
            (
                "max_batch_rows = 2\npreferred_batch_rows = [4]",
                "preferred_batch_rows: 4 is more than max_batch_rows = 2",
            ),
            (
                "priority_levels = 65",
                "priority_levels: expected at most 64, got 65",
            ),
            (
                "priority_levels = 2\ndefault_priority_level = 3",
                "default_priority_level: expected a level from 1 to 2, got 3",
            ),
            (
                "priority_queue_policy = { a = {} }",
                "priority_queue_policy: priority_levels is not set, got 'a'",
            ),
            (
                "latency_target_ms = 0",
                "latency_target_ms: expected at least 1, got 0",
            ),
        ] {
            assert_eq!(read(text), Err(expected.to_owned()));
        }
        assert!(read("queue_policy = { timeout = 3 }").is_err());
        assert!(read("instances = 0").is_err());
        assert_eq!(
            read("instances = 5000"),
            Err("instances: expected at most 1024, got 5000".to_owned())
        );
    }
}
