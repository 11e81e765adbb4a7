//! The routes as hyper calls them: a request is in flight until the last byte of its answer is handed over.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response, Version, header};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::Service;
use tower::ServiceExt;

use super::activity::{Activity, HalfGiven, InFlight};
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
        let activity = (version == Version::HTTP_2).then(|| self.activity.clone());
        let (request, lender) = lend(request);
        let answer = self.router.clone().oneshot(request);
        Box::pin(async move {
            let (mut head, body) = answer.await?.into_parts();
            if let Some(lender) = lender {
                lender.settle(&mut head).await;
            }
            let is_grpc = head
                .headers
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
            let answer = Answer {
                body,
                _in_flight: in_flight,
                http2: activity.map(|activity| Pieces::new(activity, is_grpc)),
            };
            Ok(Response::from_parts(head, answer))
        })
    }
}

/// An answer's body.
pub struct Answer {
    body: Body,
    _in_flight: InFlight,
    http2: Option<Pieces>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Answer { body, http2, .. } = &mut *self;
        let Some(pieces) = http2 else {
            return Pin::new(body).poll_frame(cx);
        };
        if pieces.rest.is_empty() {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => pieces.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(pieces.next(body.is_end_stream())))))
    }

    fn is_end_stream(&self) -> bool {
        let is_given = |pieces: &Pieces| pieces.rest.is_empty();
        self.http2.as_ref().is_none_or(is_given) && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.http2 {
            Some(pieces) if !pieces.rest.is_empty() => SizeHint::default(),
            _ => self.body.size_hint(),
        }
    }
}

/// The largest piece.
const PIECE_BYTES: usize = 64 << 10;

/// HTTP/2 takes a frame of any size and keeps it until the client makes room for it. So that a request is over when
/// its answer is, frames are given in pieces, the next one when there is room for it.
struct Pieces {
    activity: Arc<Activity>,
    /// Streams of gRPC may be silent for as long as they like between two frames.
    may_pause: bool,
    rest: Bytes,
    half_given: Option<HalfGiven>,
}

impl Pieces {
    fn new(activity: Arc<Activity>, may_pause: bool) -> Pieces {
        Pieces {
            activity,
            may_pause,
            rest: Bytes::new(),
            half_given: None,
        }
    }

    fn next(&mut self, is_last_frame: bool) -> Bytes {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        let is_done = self.rest.is_empty() && (self.may_pause || is_last_frame);
        match &self.half_given {
            _ if is_done => self.half_given = None,
            Some(half_given) => half_given.another(),
            None => self.half_given = Some(self.activity.half_given()),
        }
        piece
    }
}
