//! Compresses the answers for which it pays, with what the client takes.

use std::convert::Infallible;
use std::future::ready;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderValue, Request, header};
use axum::response::Response;
use tower::{ServiceExt, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::Compression;
use tower_http::compression::predicate::{
    DefaultPredicate, NotForContentType, Predicate, SizeAbove,
};

use super::paced::Fair;

/// A smaller answer fits into one or two packets as it is, and many clients ask for compression without wanting it:
/// Python's `requests` always does.
const LEAST_BYTES: u64 = 2 << 10;

/// What a client takes: its `Accept-Encoding`.
pub struct Accepted(Vec<HeaderValue>);

impl Accepted {
    pub fn of(headers: &HeaderMap) -> Accepted {
        let accepted = headers.get_all(header::ACCEPT_ENCODING);
        Accepted(accepted.iter().cloned().collect())
    }

    /// Compresses an answer if that is worth it.
    pub async fn compress(self, response: Response) -> Response {
        match is_worth_it(&response) {
            true => Box::pin(self.compressed(response)).await,
            false => response,
        }
    }

    /// tower-http's layer would wrap the body of every answer, so it is given only those that it is to compress: each
    /// as the request for itself.
    async fn compressed(self, response: Response) -> Response {
        let mut request = Request::new(response);
        for value in self.0 {
            request.headers_mut().append(header::ACCEPT_ENCODING, value);
        }
        let answer = service_fn(|request: Request<Response>| {
            ready(Ok::<_, Infallible>(request.into_body().map(Fair::new)))
        });
        let compression = Compression::new(answer)
            .quality(CompressionLevel::Fastest)
            .compress_when(SizeAbove::new(0));
        match compression.oneshot(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }
}

/// Tensors as raw bytes are not: floats hardly become smaller, and take far longer to compress than to send.
fn is_worth_it(response: &Response) -> bool {
    let is_small = |size| size < LEAST_BYTES;
    !response.body().size_hint().exact().is_some_and(is_small)
        && DefaultPredicate::new()
            .and(NotForContentType::const_new("application/octet-stream"))
            .should_compress(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_texts_are_worth_it() {
        #[track_caller]
        fn check(kind: &str, bytes: usize, expected: bool) {
            let mut response = Response::new(Body::from(vec![b' '; bytes]));
            let kind = HeaderValue::from_str(kind).expect("a valid header");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            assert_eq!(is_worth_it(&response), expected);
        }
        check("application/json", 2048, true);
        check("application/json", 2047, false);
        check("text/plain; version=0.0.4", 5000, true);
        check("application/octet-stream", 1 << 20, false);
        check("application/grpc", 1 << 20, false);
    }
}
