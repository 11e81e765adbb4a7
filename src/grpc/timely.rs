//! A call's body whose messages each come whole within a time, and of which memory holds as many as there is room for.
//! Between them a stream may be silent for as long as it likes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::Sleep;

use super::App;
use super::status::status;
use crate::error::{Error, ErrorKind, Result};
use crate::in_flight::Held;

/// A flag and a length of four bytes stand before each message.
const PREFIX_BYTES: usize = 5;

/// A body that fails where a message stops coming, or is announced that has no room.
pub struct Timely {
    body: Body,
    timeout: Duration,
    /// A longer message is refused by the decoder, which takes no memory for it.
    most: usize,
    /// What is taken for messages that are coming.
    held: Arc<Held>,
    messages: Messages,
    /// Begins when more of a message is first waited for; most are there by then.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Timely {
    /// A call's body.
    pub fn new(body: Body, app: &App) -> Timely {
        Timely {
            body,
            timeout: app.body_timeout,
            most: app.limits.body_bytes,
            held: app.in_flight.hold(),
            messages: Messages::default(),
            timer: None,
        }
    }
}

impl Timely {
    /// Room is taken before the bytes behind a length come: the decoder takes memory on its word. What has come whole
    /// is held by whoever works on it.
    fn hold(&mut self) -> Result<()> {
        match self.messages.coming() {
            coming if coming > self.most => Ok(()),
            coming => self.held.set(coming),
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
                if this.messages.pass(data) {
                    this.timer = None;
                }
                if let Err(error) = this.hold() {
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

impl Messages {
    /// Whether a message ends in these bytes.
    fn pass(&mut self, mut data: &[u8]) -> bool {
        let mut ended = false;
        while let Some((&first, behind)) = data.split_first() {
            if self.left == 0 {
                // The flag is shifted out by the length.
                self.length = self.length << 8 | u32::from(first);
                self.prefix += 1;
                data = behind;
                if self.prefix == PREFIX_BYTES {
                    self.left = self.length as usize;
                    self.prefix = 0;
                    ended |= self.left == 0;
                }
            } else {
                let passing = self.left.min(data.len());
                self.left -= passing;
                data = &data[passing..];
                ended |= self.left == 0;
            }
        }
        ended
    }

    /// How long the message is of which more must come.
    fn coming(&self) -> usize {
        match self.left {
            0 => 0,
            _ => self.length as usize,
        }
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
                assert_eq!(messages.pass(part), ended, "{cut} {passed}");
                assert_eq!(
                    messages.is_within(),
                    !ends.contains(&passed),
                    "{cut} {passed}"
                );
            }
        }
        let mut empty = Messages::default();
        assert!(empty.pass(&[0; 5]) && !empty.is_within());
    }
}
