//! A call's body whose messages each come whole within a time, and of which memory holds as many as there is room for.
//! Between them a stream may be silent for as long as it likes.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::Sleep;

use super::App;
use super::methods::Kind;
use super::status::status;
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::bodies::Held;

/// A flag and a length of four bytes stand before each message.
const PREFIX_BYTES: usize = 5;

/// What a call's messages have of the budget, which outlives its body.
pub type Holding = Arc<Mutex<Held>>;

/// A body that fails where a message stops coming, or is announced that has no room.
pub struct Timely {
    body: Body,
    timeout: Duration,
    /// A longer message is refused by the decoder, which takes no memory for it.
    most: usize,
    held: Holding,
    /// Whether others come behind a message, each of which is forgotten when it has come.
    is_stream: bool,
    messages: Messages,
    /// Begins when more of a message is first waited for; most are there by then.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Timely {
    /// A call's body; what it holds of the budget goes to `held`.
    pub fn new(body: Body, app: &App, kind: Kind, held: Holding) -> Timely {
        Timely {
            body,
            timeout: app.body_timeout,
            most: app.limits.body_bytes,
            held,
            is_stream: matches!(kind, Kind::Stream),
            messages: Messages::default(),
            timer: None,
        }
    }
}

impl Timely {
    /// Room is taken before the bytes behind a length come: the decoder takes memory on its word.
    fn hold(&mut self, Passed { announced, ended }: Passed) -> Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if ended {
            self.timer = None;
            if self.is_stream {
                held.give_back();
            }
        }
        match announced > self.most {
            true => Ok(()),
            false => held.take(announced),
        }
    }
}

impl HttpBody for Timely {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame
                && let Some(data) = frame.data_ref()
            {
                let passed = this.messages.pass(data);
                if let Err(error) = this.hold(passed) {
                    return Poll::Ready(Some(Err(status(error).into())));
                }
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !this.messages.is_within() {
            return Poll::Pending;
        }
        let timeout = this.timeout;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(timer.as_mut().poll(cx));
        let error = Error::new(
            ErrorKind::RequestTimeout,
            format!(
                "a message did not come whole within {} ms",
                timeout.as_millis()
            ),
        );
        Poll::Ready(Some(Err(status(error).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where messages begin and end in what has passed.
#[derive(Default)]
struct Messages {
    /// Of the prefix that is passing.
    prefix: usize,
    length: u32,
    /// Of the message behind it.
    left: usize,
}

/// What bytes that pass tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Passed {
    /// The bytes of the messages whose prefixes end here.
    announced: usize,
    /// Whether a message does.
    ended: bool,
}

impl Messages {
    fn pass(&mut self, mut data: &[u8]) -> Passed {
        let mut passed = Passed::default();
        while let Some((&first, behind)) = data.split_first() {
            if self.left == 0 {
                // The flag is shifted out by the length.
                self.length = self.length << 8 | u32::from(first);
                self.prefix += 1;
                data = behind;
                if self.prefix == PREFIX_BYTES {
                    self.left = self.length as usize;
                    self.prefix = 0;
                    passed.announced = passed.announced.saturating_add(self.left);
                    passed.ended |= self.left == 0;
                }
            } else {
                let passing = self.left.min(data.len());
                self.left -= passing;
                data = &data[passing..];
                passed.ended |= self.left == 0;
            }
        }
        passed
    }

    /// Whether more of a message must come.
    fn is_within(&self) -> bool {
        self.prefix > 0 || self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_however_they_are_cut() {
        let bytes = [&[0, 0, 0, 0, 2, 7, 7][..], &[1, 0, 0, 1, 0], &[9; 256]].concat();
        let ends = [7, bytes.len()];
        for cut in 1..=bytes.len() {
            let mut messages = Messages::default();
            let mut passed = 0;
            for part in bytes.chunks(cut) {
                let before = passed;
                passed += part.len();
                let ended = ends.iter().any(|end| (before + 1..=passed).contains(end));
                assert_eq!(messages.pass(part).ended, ended, "{cut} {passed}");
                assert_eq!(
                    messages.is_within(),
                    !ends.contains(&passed),
                    "{cut} {passed}"
                );
            }
        }
        let mut empty = Messages::default();
        assert!(empty.pass(&[0; 5]).ended && !empty.is_within());
    }
}
