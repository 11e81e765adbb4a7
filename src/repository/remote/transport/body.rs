//! An answer's body whose pieces must not be longer apart than they may be.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use object_store::client::{HttpError, HttpErrorKind};
use tokio::time::{Instant, Sleep};

use super::timed_out;

/// A body that fails when it stalls.
pub struct Paced {
    body: Incoming,
    pause: Duration,
    alarm: Pin<Box<Sleep>>,
}

impl Paced {
    /// The same body, of which every piece must come within `pause`.
    pub fn new(body: Incoming, pause: Duration) -> Paced {
        Paced {
            body,
            pause,
            alarm: Box::pin(tokio::time::sleep(pause)),
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let next = Instant::now() + self.pause;
            self.alarm.as_mut().reset(next);
            return Poll::Ready(
                frame.map(|frame| frame.map_err(|error| HttpError::new(kind_of(&error), error))),
            );
        }
        ready!(self.alarm.as_mut().poll(context));
        Poll::Ready(Some(Err(timed_out("the answer stalled"))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What the library may make of an error: whether to try again.
pub fn kind_of(error: &(dyn Error + 'static)) -> HttpErrorKind {
    let client = error.downcast_ref::<hyper_util::client::legacy::Error>();
    if client.is_some_and(|error| error.is_connect()) {
        return HttpErrorKind::Connect;
    }
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            if error.is_timeout() {
                return HttpErrorKind::Timeout;
            }
            if error.is_closed() || error.is_incomplete_message() {
                return HttpErrorKind::Request;
            }
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            match error.kind() {
                io::ErrorKind::TimedOut => return HttpErrorKind::Timeout,
                io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof => return HttpErrorKind::Interrupted,
                _ => {}
            }
        }
        cause = error.source();
    }
    HttpErrorKind::Unknown
}
