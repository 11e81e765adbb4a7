//! The synchronisation that `queue.rs` rests on, in one place: its model check puts `shuttle`'s in its place.

pub use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
