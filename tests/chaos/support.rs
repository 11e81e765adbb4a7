//! What the tests of the faces use too.

#[path = "../it/support/client.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
pub mod client;
#[path = "../it/support/running.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
pub mod running;
#[path = "../it/support/waiting.rs"]
mod waiting;

use std::time::Duration;

pub use waiting::eventually;

/// Nothing here takes so long unless it hangs: a store that was away is asked again after a minute.
pub const PATIENCE: Duration = Duration::from_secs(120);
