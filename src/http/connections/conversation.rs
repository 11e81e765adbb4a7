//! Serves one connection, from its first byte to its last, within the limits.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::activity::{Activity, Farewell, Limit, instant, now};
use super::service::Routes;
use super::stream::{Protocol, Stream};
use super::streams::Streams;
use crate::config::ConnectionLimits;

/// The largest head of an HTTP/1.1 request.
const HEAD_BYTES: usize = 64 << 10;
/// What is read at once, for which every connection has a buffer that no budget counts. hyper's would be 408 KiB.
const BUFFER_BYTES: usize = 2 * HEAD_BYTES;
/// The largest frame of HTTP/2. Eight times what the protocol begins with: a picture comes in few.
const FRAME_BYTES: u32 = 128 << 10;
/// How often an HTTP/2 client is asked whether it is still there: its streams may be silent for as long as they like.
const PING_INTERVAL: Duration = Duration::from_secs(60);

/// Serves what comes over a connection that was just accepted; tells the limit that it was closed at, if there was one.
pub async fn converse(
    stream: TcpStream,
    router: Router,
    activity: &Arc<Activity>,
    limits: &ConnectionLimits,
) -> Option<Limit> {
    // Answers are written whole; waiting to fill a packet would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(reason = error.to_string(), "cannot set TCP_NODELAY");
    }
    // The one place where TLS will wrap the stream; what follows takes any.
    let mut stream = Stream::new(stream, activity.clone());
    let watch = pin!(Watch::new(activity, limits));
    let limit = match serve(&mut stream, router, activity, watch).await {
        Err(Ended::Limit(limit)) => Some(limit),
        Err(Ended::Error(reason)) => {
            tracing::debug!(reason, "connection ended early");
            None
        }
        Ok(()) => match activity.farewell() {
            Some(farewell) => Some(farewell.limit()),
            None => {
                linger(stream).await;
                None
            }
        },
    };
    if let Some(limit) = limit {
        tracing::debug!(limit = limit.label(), "connection closed");
    }
    limit
}

/// Why a connection ended before its time.
enum Ended {
    Limit(Limit),
    Error(String),
}

impl<E: std::error::Error> From<E> for Ended {
    fn from(error: E) -> Self {
        Ended::Error(error.to_string())
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut Stream<S>,
    router: Router,
    activity: &Arc<Activity>,
    mut watch: Pin<&mut Watch<'_>>,
) -> Result<(), Ended> {
    let protocol = watch.as_mut().over(pin!(stream.protocol()), |_| {}).await?;
    let routes = Routes {
        router,
        activity: activity.clone(),
    };
    let stream = TokioIo::new(stream);
    match protocol? {
        None => {}
        Some(Protocol::Http1) => {
            let connection = http1::Builder::new()
                // Ours begins with the first byte of a head; hyper's also runs between requests.
                .header_read_timeout(None)
                .max_header_size(HEAD_BYTES)
                .max_buf_size(BUFFER_BYTES)
                .serve_connection(stream, routes);
            let connection = pin!(connection);
            watch
                .over(connection, http1::Connection::graceful_shutdown)
                .await??;
        }
        Some(Protocol::Http2) => {
            let streams = Streams::new(watch.limits.body_timeout);
            let connection = http2::Builder::new(streams)
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .max_frame_size(FRAME_BYTES)
                .serve_connection(stream, routes);
            let connection = pin!(connection);
            watch
                .over(connection, http2::Connection::graceful_shutdown)
                .await??;
        }
    }
    Ok(())
}

/// Watches that a connection keeps its limits.
struct Watch<'a> {
    activity: &'a Activity,
    limits: &'a ConnectionLimits,
    asked: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    is_listening: bool,
    timer: Pin<Box<Sleep>>,
}

impl<'a> Watch<'a> {
    fn new(activity: &'a Activity, limits: &'a ConnectionLimits) -> Watch<'a> {
        Watch {
            activity,
            limits,
            asked: Box::pin(activity.asked()),
            is_listening: false,
            timer: Box::pin(tokio::time::sleep(limits.idle_timeout)),
        }
    }

    /// Carries on with `work` to its end, or to a limit; `leave` is called once when the connection is asked to leave.
    async fn over<W: Future>(
        mut self: Pin<&mut Self>,
        mut work: Pin<&mut W>,
        leave: impl Fn(Pin<&mut W>),
    ) -> Result<W::Output, Ended> {
        let mut has_left = false;
        poll_fn(|cx| {
            loop {
                // First of all, since hyper closes a connection that is to leave before it has read anything, and a
                // request may be waiting.
                if let Poll::Ready(done) = work.as_mut().poll(cx) {
                    return Poll::Ready(Ok(done));
                }
                if !has_left && self.is_asked(cx) {
                    has_left = true;
                    leave(work.as_mut());
                    continue;
                }
                match ready!(self.poll_limit(cx)) {
                    Limit::Idle if !has_left => self.activity.ask_to_leave(Farewell::Idle),
                    limit => return Poll::Ready(Err(Ended::Limit(limit))),
                }
            }
        })
        .await
    }

    fn is_asked(&mut self, cx: &mut Context<'_>) -> bool {
        // It is told where to knock once: the waker of a task stays the same.
        if !self.is_listening {
            self.is_listening = true;
            return self.asked.as_mut().poll(cx).is_ready();
        }
        self.activity.farewell().is_some()
    }

    /// The timer is only ever brought forward, and put off when it fires: most requests do not touch it.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<Limit> {
        loop {
            let due = self.activity.due(self.limits);
            if let Some((at, _)) = due
                && instant(at) < self.timer.deadline()
            {
                self.timer.as_mut().reset(instant(at));
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match due {
                Some((at, limit)) if at <= now() => return Poll::Ready(limit),
                Some((at, _)) => self.timer.as_mut().reset(instant(at)),
                // No idling that begins from now on is over before that.
                None => {
                    let later = tokio::time::Instant::now() + self.limits.idle_timeout;
                    self.timer.as_mut().reset(later);
                }
            }
        }
    }
}

/// How long a client that is still sending is listened to after its last answer.
const LINGER: Duration = Duration::from_secs(5);
/// How long it may be silent meanwhile.
const LINGER_SILENCE: Duration = Duration::from_secs(1);

/// A socket that is closed with unread bytes resets the connection, and the client may lose an answer that it has not
/// read yet, such as that its body is too large.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: Stream<S>) {
    let mut ignored = vec![0; 16 << 10];
    let listen = async {
        while let Ok(Ok(1..)) =
            tokio::time::timeout(LINGER_SILENCE, stream.read(&mut ignored)).await
        {}
    };
    // In the end the answer was not wanted.
    let _ = tokio::time::timeout(LINGER, listen).await;
}
