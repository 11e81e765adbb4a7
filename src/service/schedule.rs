//! What the parameters `priority` and `timeout` of a request come to at a model: the `schedule_policy` extension.

use std::time::Duration;

use super::types::InferRequest;
use crate::error::{Error, Result};
use crate::serving::knobs::Knobs;

/// The level that a request asks for, if the model has it; a model without levels heeds none.
pub fn priority(knobs: &Knobs, request: &InferRequest) -> Result<Option<u32>> {
    let levels = knobs.set.priority_levels;
    let is_beyond = |priority: u32| usize::try_from(priority).map_or(true, |level| level > levels);
    match request.priority {
        // Triton takes it for the default, so that a client never learns that its urgent requests are none.
        Some(priority) if levels > 0 && is_beyond(priority) => Err(Error::invalid(format!(
            "parameter 'priority': expected a level from 1, which goes first, to {levels}, or 0 for the model's default, got {priority}"
        ))),
        priority => Ok(priority),
    }
}

/// How long the request may take by its client's word. Its parameter counts unless the owner's policy sets a time and
/// does not let requests override it.
pub fn timeout(knobs: &Knobs, request: &InferRequest) -> Option<Duration> {
    let policy = knobs.policy(knobs.level(request.priority));
    let is_overruled = policy.default_timeout.is_some() && !policy.allow_timeout_override;
    let own = request.queue_timeout.filter(|_| !is_overruled);
    request.timeout.into_iter().chain(own).min()
}
