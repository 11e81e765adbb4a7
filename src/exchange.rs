//! What every transport does with an exchange: who it is, the line that the log gets of it, and how large
//! bodies are worked on.

pub mod access;
pub mod aside;
pub mod trace;

use std::time::Duration;

/// An inference that runs out of time is answered by its own deadline, which knows and counts what it was.
pub const DEADLINE_HEAD_START: Duration = Duration::from_millis(250);
