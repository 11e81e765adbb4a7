//! Work on large bodies, off the async threads' own time, so that probes never wait for it.

/// What is longer is worked on aside.
const LARGE_BYTES: usize = 256 << 10;

/// Runs `work` on so many bytes at once if they are few; else where it keeps no other request waiting.
pub fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LARGE_BYTES {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}
