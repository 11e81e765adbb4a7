//! Compresses the answers for which it pays, with what the client takes.

use std::convert::Infallible;
use std::future::ready;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{self, HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use tower::{ServiceExt, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::Compression;
use tower_http::compression::predicate::{
    DefaultPredicate, NotForContentType, Predicate, SizeAbove,
};

use super::body::Fair;

/// A smaller answer fits into one or two packets as it is, and many clients ask for compression without wanting it:
/// Python's `requests` always does.
const LEAST_BYTES: u64 = 2 << 10;

/// Compresses the answer if it is worth it. Tensors as raw bytes are not: floats hardly become smaller, and take far
/// longer to compress than to send.
pub async fn compress(request: Request, next: Next) -> Response {
    let accepted: HeaderMap = request
        .headers()
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .map(|value| (header::ACCEPT_ENCODING, value.clone()))
        .collect();
    let response = next.run(request).await;
    let worth = DefaultPredicate::new()
        .and(SizeAbove::new(LEAST_BYTES))
        .and(NotForContentType::const_new("application/octet-stream"));
    if !worth.should_compress(&response) {
        return response;
    }
    compressed(response, accepted).await
}

/// tower-http's layer would wrap the body of every answer, so it is given only those that it is to compress: each as
/// the request for itself.
async fn compressed(response: Response, accepted: HeaderMap) -> Response {
    let mut request = http::Request::new(response);
    *request.headers_mut() = accepted;
    let answer = service_fn(|request: http::Request<Response>| {
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
