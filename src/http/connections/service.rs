//! The routes as hyper calls them: a request is in flight until the last byte of its answer is handed over.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response, Version};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::Service;
use tower::ServiceExt;

use super::activity::{Activity, InFlight};

/// The routes, and the connection that they are called for.
#[derive(Clone)]
pub struct Routes {
    pub router: Router,
    pub activity: Arc<Activity>,
}

impl Service<Request<Incoming>> for Routes {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = self.activity.begin();
        let is_http2 = request.version() == Version::HTTP_2;
        let answer = self.router.clone().oneshot(request);
        Box::pin(async move {
            let response = answer.await?;
            Ok(response.map(|body| Answer {
                body,
                rest: Bytes::new(),
                is_http2,
                _in_flight: in_flight,
            }))
        })
    }
}

/// HTTP/2 keeps a frame that it was given until the client has room for it, so frames are given in pieces: a request
/// is over when the last piece is.
const PIECE_BYTES: usize = 64 << 10;

/// An answer's body.
pub struct Answer {
    body: Body,
    rest: Bytes,
    is_http2: bool,
    _in_flight: InFlight,
}

impl Answer {
    fn piece(&mut self) -> Frame<Bytes> {
        let length = self.rest.len().min(PIECE_BYTES);
        Frame::data(self.rest.split_to(length))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match frame {
            Some(Ok(frame)) if self.is_http2 && frame.data_ref().is_some_and(is_large) => {
                self.rest = frame.into_data().unwrap_or_default();
                Poll::Ready(Some(Ok(self.piece())))
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn is_large(data: &Bytes) -> bool {
    data.len() > PIECE_BYTES
}
