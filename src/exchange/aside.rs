//! Work on large bodies, off the async threads' own time, so that probes never wait for it.
//!
//! Whatever is worked on aside has a thread meanwhile; so there are turns, as many as there are cores.

use std::future::poll_fn;
use std::mem::replace;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::Poll;
use std::thread::available_parallelism;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::block_in_place;

/// What is longer is worked on aside.
const LARGE_BYTES: usize = 256 << 10;

static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, usize::from)));

/// What so much data costs to read or write, in bytes that are parsed: raw tensors are copied at most.
pub fn cost(parsed_bytes: usize, raw_bytes: usize) -> usize {
    parsed_bytes + raw_bytes / 8
}

/// Runs `work` on so many bytes at once if they are few; else in its turn, where it keeps no other request waiting.
pub async fn aside_in_turn<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes <= LARGE_BYTES {
        return work();
    }
    let _turn = turn().await;
    block_in_place(work)
}

/// The same for code that cannot wait: when all turns are taken, the work is done on the thread that is there.
pub fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes <= LARGE_BYTES {
        return work();
    }
    match TURNS.try_acquire() {
        Ok(_turn) => block_in_place(work),
        Err(_) => work(),
    }
}

/// Drives `work` to its end, every step of it aside and in its turn. The work itself must not wait for turns: one that
/// has come and is not taken would keep the step from it that takes it.
pub async fn all_aside<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    loop {
        let turn = turn().await;
        let step = poll_fn(|cx| Poll::Ready(block_in_place(|| work.as_mut().poll(cx)))).await;
        drop(turn);
        match step {
            Poll::Ready(output) => return output,
            Poll::Pending => woken().await,
        }
    }
}

/// Waits until the task is woken.
async fn woken() {
    let mut has_waited = false;
    poll_fn(|_| match replace(&mut has_waited, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

async fn turn() -> SemaphorePermit<'static> {
    TURNS.acquire().await.expect("turns are never closed")
}
