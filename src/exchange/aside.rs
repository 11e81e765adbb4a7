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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread::sleep;
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;

    static AT_WORK: AtomicUsize = AtomicUsize::new(0);

    fn work() {
        let at_work = AT_WORK.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(at_work <= available_parallelism().map_or(1, usize::from));
        sleep(Duration::from_millis(2));
        AT_WORK.fetch_sub(1, Ordering::SeqCst);
    }

    #[test]
    fn no_more_is_worked_on_at_once_than_there_are_turns() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let all = runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for _ in 0..40 {
                tasks.spawn(aside_in_turn(LARGE_BYTES + 1, work));
                tasks.spawn(all_aside(async {
                    work();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    aside(LARGE_BYTES + 1, work);
                }));
            }
            tasks.join_all().await.len()
        });
        assert_eq!(all, 80);
    }
}
