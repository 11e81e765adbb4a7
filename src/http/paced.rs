//! Bodies that keep to limits: of the time in which they must have come, and of how long they hold a thread.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::body::Bytes;
use http_body_util::{Either, LengthLimitError};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;
use tower_http::decompression::DecompressionBody;

use crate::error::{Error, ErrorKind};

/// A request's body did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("the body did not come whole within {} ms", .0.as_millis())]
pub struct TooSlow(Duration);

/// A body that must have come whole within a time.
pub struct Timely<B> {
    body: B,
    timeout: Duration,
    /// Begins when the body is first waited for; most are there by then.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Timely<B> {
    pub fn new(body: B, timeout: Duration) -> Timely<B> {
        Timely {
            body,
            timeout,
            timer: None,
        }
    }
}

impl<B: Body<Error: Into<BoxError>> + Unpin> Body for Timely<B> {
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timeout = this.timeout;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(TooSlow(timeout).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// As much of a body passes at once before other tasks have their turn; compressing it takes about a millisecond.
const TURN_BYTES: usize = 128 << 10;
/// As much of it passes in one piece.
const PIECE_BYTES: usize = 32 << 10;

/// A body on which work is done while it passes: in pieces, between which other tasks have their turn.
pub struct Fair<B> {
    body: B,
    rest: Bytes,
    passed: usize,
}

impl<B> Fair<B> {
    pub fn new(body: B) -> Fair<B> {
        Fair {
            body,
            rest: Bytes::new(),
            passed: 0,
        }
    }
}

/// A request's body as it is after decompression.
pub type Decompressed<B> = Either<DecompressionBody<B>, Fair<DecompressionBody<B>>>;

/// Lets decompression take turns. A body whose size is known is not compressed, and passes as it is.
pub fn in_turns<B: Body>(body: DecompressionBody<B>) -> Decompressed<B>
where
    DecompressionBody<B>: Body,
{
    match body.size_hint().exact() {
        Some(_) => Either::Left(body),
        None => Either::Right(Fair::new(body)),
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Fair<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        if this.passed >= TURN_BYTES {
            this.passed = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        this.passed += piece.len();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest.is_empty() {
            true => self.body.size_hint(),
            false => SizeHint::default(),
        }
    }
}

/// What to tell of a request's body that could not be read to its end.
pub fn unread(error: BoxError, most_bytes: usize) -> Error {
    if let Some(slow) = cause::<TooSlow>(&error) {
        return Error::new(ErrorKind::RequestTimeout, slow.to_string());
    }
    if cause::<LengthLimitError>(&error).is_some() {
        return Error::too_large(format!(
            "the body is larger than the limit of {most_bytes} bytes"
        ));
    }
    Error::invalid("the body could not be read or decompressed").with_source(error)
}

fn cause<E: std::error::Error + 'static>(error: &BoxError) -> Option<&E> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
