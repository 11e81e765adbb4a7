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
use super::streams;
use super::unread::lend;

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
        let version = request.version();
        let (request, lender) = lend(request);
        let answer = self.router.clone().oneshot(request);
        Box::pin(async move {
            let (mut head, body) = answer.await?.into_parts();
            if let Some(lender) = lender {
                lender.settle(&mut head).await;
            }
            let answer = Answer {
                body,
                _in_flight: in_flight,
                rest: (version == Version::HTTP_2).then(Bytes::new),
            };
            Ok(Response::from_parts(head, answer))
        })
    }
}

/// An answer's body.
pub struct Answer {
    body: Body,
    _in_flight: InFlight,
    /// What is left of a frame that is given in pieces, as all are in HTTP/2.
    rest: Option<Bytes>,
}

/// HTTP/2 takes a frame of any size and keeps it until the client makes room for it. So that a request is over when
/// its answer is, frames are given in pieces of this size, the next one when there is room for it.
const PIECE_BYTES: usize = 64 << 10;

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Answer { body, rest, .. } = &mut *self;
        let Some(rest) = rest else {
            return Pin::new(body).poll_frame(cx);
        };
        streams::passed_on();
        if rest.is_empty() {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        streams::given();
        let piece = rest.split_to(rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(Bytes::is_empty) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Some(rest) if !rest.is_empty() => SizeHint::default(),
            _ => self.body.size_hint(),
        }
    }
}
