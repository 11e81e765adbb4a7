//! Work on large bodies, off the async threads' own time, so that probes never wait for it.

use std::future::poll_fn;
use std::pin::pin;

/// What is longer is worked on aside.
const LARGE_BYTES: usize = 256 << 10;

/// What so much data costs to read or write, in bytes that are parsed: raw tensors are copied at most.
pub fn cost(parsed_bytes: usize, raw_bytes: usize) -> usize {
    parsed_bytes + raw_bytes / 8
}

/// Runs `work` on so many bytes at once if they are few; else where it keeps no other request waiting.
pub fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LARGE_BYTES {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// Drives `work` to its end, every step of it aside.
pub async fn all_aside<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|cx| tokio::task::block_in_place(|| work.as_mut().poll(cx))).await
}
