//! What the tests of the faces use too.

#[path = "../it/support/client.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
pub mod client;

use std::time::{Duration, Instant};

/// Nothing here takes so long unless it hangs: a store that was away is asked again after a minute.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `condition` holds; fails loudly instead of waiting for ever.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "it never came true: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
