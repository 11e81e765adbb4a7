//! What is left of a request's body when its answer is ready.
//!
//! An answer may be ready before the body is read: to an unknown path, say. hyper then closes an HTTP/1.1 connection
//! without a word, and a client that keeps connections loses its next request on it. So a short rest is read, and where
//! there is more the answer says that the connection will be closed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, Request, Version, header, response};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// So much is read for the sake of the connection, and for so long.
const MOST_BYTES: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a request may be answered before its body is read: the client waits for leave to send it, or it is so short
/// that the connection outlives it.
pub fn may_stay_unread(headers: &HeaderMap, body: &impl Body) -> bool {
    let length = body.size_hint().exact();
    headers.contains_key(header::EXPECT) || length.is_some_and(|bytes| bytes <= MOST_BYTES)
}

/// A request's body, which is given back by whoever does not read it to its end.
pub struct Lent {
    body: Option<Incoming>,
    back: Arc<Mutex<Option<Incoming>>>,
}

/// Where a body comes back to.
pub struct Lender {
    back: Arc<Mutex<Option<Incoming>>>,
    /// Whether the client may wait for leave to send the body, which reading it would give.
    is_waiting: bool,
}

/// Lends the body of a request; over HTTP/2 a stream can end without its connection, and nobody asks for it back.
pub fn lend(request: Request<Incoming>) -> (Request<Lent>, Option<Lender>) {
    let back = Arc::default();
    let lender =
        (request.version() < Version::HTTP_2 && !request.body().is_end_stream()).then(|| {
            let is_waiting = request.headers().contains_key(header::EXPECT);
            let back = Arc::clone(&back);
            Lender { back, is_waiting }
        });
    let request = request.map(|body| Lent {
        body: Some(body),
        back,
    });
    (request, lender)
}

impl Lender {
    /// Reads what is left, or tells the client in the answer's head that the connection ends.
    pub async fn settle(self, answer: &mut response::Parts) {
        let left = self
            .back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(left) = left else { return };
        let closes = answer.headers.contains_key(header::CONNECTION);
        if closes || self.is_waiting || !read(left).await {
            let close = HeaderValue::from_static("close");
            answer.headers.insert(header::CONNECTION, close);
        }
    }
}

/// Whether that was all of it.
async fn read(mut left: Incoming) -> bool {
    if left.size_hint().lower() > MOST_BYTES {
        return false;
    }
    let rest = async {
        let mut bytes = 0;
        while let Some(frame) = left.frame().await {
            let Ok(frame) = frame else { return false };
            bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
            if bytes > MOST_BYTES {
                return false;
            }
        }
        true
    };
    matches!(tokio::time::timeout(PATIENCE, rest).await, Ok(true))
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let left = self.body.take().filter(|body| !body.is_end_stream());
        if let Some(left) = left {
            *self.back.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
        }
    }
}
