//! A call's body whose messages each come whole within a time. Between them a stream may be silent for as long as it
//! likes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::Sleep;

use super::status::status;
use crate::error::{Error, ErrorKind};

/// A flag and a length of four bytes stand before each message.
const PREFIX_BYTES: usize = 5;

/// A body that fails where a message stops coming.
pub struct Timely {
    body: Body,
    timeout: Duration,
    messages: Messages,
    /// Begins when more of a message is first waited for; most are there by then.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Timely {
    pub fn new(body: Body, timeout: Duration) -> Timely {
        Timely {
            body,
            timeout,
            messages: Messages::default(),
            timer: None,
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
                && this.messages.pass(data)
            {
                this.timer = None;
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
    /// Whether a message has ended in these bytes.
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
