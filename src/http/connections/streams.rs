//! Runs the streams of an HTTP/2 connection, and ends those whose answers the client does not take: the others go on.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, sleep_until};

tokio::task_local! {
    /// When the stream that runs was given a part of its answer which it has not yet passed on.
    static GIVEN_AT: Cell<Option<Instant>>;
}

/// The running stream has a part of its answer to pass on.
pub fn given() {
    set(Some(Instant::now()));
}

/// The running stream has passed on all that it was given.
pub fn passed_on() {
    set(None);
}

fn set(given_at: Option<Instant>) {
    // Requests of HTTP/1 are no streams: the whole connection waits with them.
    let _ = GIVEN_AT.try_with(|at| at.set(given_at));
}

/// Runs every stream as a task of its own.
#[derive(Debug, Clone)]
pub struct Streams {
    body_timeout: Duration,
}

impl Streams {
    pub fn new(body_timeout: Duration) -> Streams {
        Streams { body_timeout }
    }
}

impl<S: Future<Output = ()> + Send + 'static> Executor<S> for Streams {
    fn execute(&self, stream: S) {
        tokio::spawn(GIVEN_AT.scope(Cell::new(None), run(stream, self.body_timeout)));
    }
}

/// Runs a stream to its end, or until the client has not made room for more of the answer for so long. Dropped before
/// its end, the stream is reset, and what the client did not take of it is forgotten.
async fn run(stream: impl Future<Output = ()>, body_timeout: Duration) {
    let mut stream = pin!(stream);
    // Made when there is something to wait for, which most answers never have.
    let mut timer = None;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(given_at) = GIVEN_AT.with(Cell::get) else {
            return Poll::Pending;
        };
        let due = given_at + body_timeout;
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        while timer.as_mut().poll(cx).is_ready() {
            if due <= Instant::now() {
                tracing::debug!("the client does not take its answer; the stream is reset");
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    })
    .await;
}
