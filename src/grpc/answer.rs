//! The body of an answer, which ends in trailers: the service's own, or those of what ended the call from outside.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderMap;
use hyper::body::Frame;
use tonic::Status;

use super::compression::Compression;
use super::edge::{Ending, Exchange};
use crate::exchange::aside::aside;
use crate::in_flight::Held;

/// What a call is answered with, until its end or that of the body.
pub struct Answer {
    pub body: Body,
    pub compression: Compression,
    pub ending: Ending,
    /// What the call's request holds, until its answer is written in its place.
    pub held: Arc<Held>,
    /// There until the call has ended.
    pub exchange: Option<Exchange>,
}

type Framed = Option<Result<Frame<Bytes>, axum::Error>>;

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Framed> {
        if self.exchange.is_none() {
            return Poll::Ready(None);
        }
        let frame = match self.compression {
            Compression::Off => Pin::new(&mut self.body).poll_frame(cx),
            // How much there is to compress is not known here.
            Compression::On => aside(usize::MAX, || Pin::new(&mut self.body).poll_frame(cx)),
        };
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.end(&status_of(trailers));
                }
                Poll::Ready(Some(Ok(frame.map_data(|message| self.written(message)))))
            }
            Poll::Ready(Some(Err(error))) => {
                self.end(&Status::unknown(error.to_string()));
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                self.end(&Status::unknown("there is no status"));
                Poll::Ready(None)
            }
            Poll::Pending => self.ending.as_mut().poll(cx).map(|status| {
                // Whatever was still being done ends with it.
                self.body = Body::empty();
                self.end(&status);
                Some(Ok(Frame::trailers(trailers_of(&status))))
            }),
        }
    }
}

impl Answer {
    /// A message that is written: it may wait long for its client, and its tensors are gone.
    fn written(&self, message: Bytes) -> Bytes {
        self.held.give_back_all();
        self.held.beside(message)
    }

    fn end(&mut self, status: &Status) {
        if let Some(exchange) = self.exchange.take() {
            exchange.end(status);
        }
    }
}

fn status_of(trailers: &HeaderMap) -> Status {
    Status::from_header_map(trailers).unwrap_or_else(|| Status::unknown("there is no status"))
}

fn trailers_of(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // It cannot be written only if its message is no header, and ours are percent-encoded.
    let _ = status.add_header(&mut trailers);
    trailers
}
