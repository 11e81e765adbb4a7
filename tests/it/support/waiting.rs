//! For what comes true in its own time.

use std::time::{Duration, Instant};

use super::PATIENCE;

/// Waits until `condition` holds; fails loudly instead of waiting for ever.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < give_up, "it never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
