//! Compresses the answers for which it pays, with what the client takes.

use std::convert::Infallible;
use std::future::ready;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use tower::{ServiceExt, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::Compression;
use tower_http::compression::predicate::{
    DefaultPredicate, NotForContentType, Predicate, SizeAbove,
};

use super::paced::Fair;
use super::sagemaker::TRITON_BINARY;

/// A smaller answer fits into one or two packets as it is, and many clients ask for compression without wanting it:
/// Python's `requests` always does.
const LEAST_BYTES: u64 = 2 << 10;

/// What a client takes: its `Accept-Encoding`, as far as it is believed.
pub struct Accepted {
    named: Vec<HeaderValue>,
    believed: Believed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Believed {
    All,
    GzipAndDeflate,
    Nothing,
}

impl Believed {
    /// Triton's asyncio client names all that its HTTP library reads, with a newer Python zstd as well, but turns that
    /// reading off: by itself it reads gzip and deflate, in answers to inference and in no others.
    fn at(path: &str) -> Believed {
        match path.strip_prefix("/v2") {
            Some(rest) if rest.ends_with("/infer") => Believed::GzipAndDeflate,
            Some("") => Believed::Nothing,
            Some(rest) if rest.starts_with('/') => Believed::Nothing,
            _ => Believed::All,
        }
    }
}

impl Accepted {
    pub fn of<B>(request: &Request<B>) -> Accepted {
        let named = request.headers().get_all(header::ACCEPT_ENCODING);
        Accepted {
            named: named.iter().cloned().collect(),
            believed: Believed::at(request.uri().path()),
        }
    }

    /// Compresses an answer if that is worth it.
    pub async fn compress(self, response: Response) -> Response {
        match self.believed != Believed::Nothing && is_worth_it(&response) {
            true => Box::pin(self.compressed(response)).await,
            false => response,
        }
    }

    /// tower-http's layer would wrap the body of every answer, so it is given only those that it is to compress: each
    /// as the request for itself.
    async fn compressed(self, response: Response) -> Response {
        let status = response.status();
        let mut request = Request::new(response);
        for value in self.named {
            request.headers_mut().append(header::ACCEPT_ENCODING, value);
        }
        let answer = service_fn(|request: Request<Response>| {
            ready(Ok::<_, Infallible>(request.into_body().map(Fair::new)))
        });
        let mut compression = Compression::new(answer)
            .quality(CompressionLevel::Fastest)
            .compress_when(SizeAbove::new(0));
        if self.believed == Believed::GzipAndDeflate {
            compression = compression.no_zstd();
        }
        match compression.oneshot(request).await {
            Ok(mut response) => {
                // Who wants no encoding that there is gets the answer as it is, which the standard allows, not an error.
                *response.status_mut() = status;
                response.map(Body::new)
            }
            Err(never) => match never {},
        }
    }
}

/// Errors are not, nor would Triton's clients read them. Tensors as raw bytes are not: floats hardly become smaller, and take far longer to compress than to send.
fn is_worth_it(response: &Response) -> bool {
    let is_small = |size| size < LEAST_BYTES;
    response.status().is_success()
        && !response.body().size_hint().exact().is_some_and(is_small)
        && DefaultPredicate::new()
            .and(NotForContentType::const_new("application/octet-stream"))
            .and(NotForContentType::const_new(TRITON_BINARY))
            .should_compress(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_v2_less_is_believed() {
        for (path, believed) in [
            ("/predict", Believed::All),
            ("/v20", Believed::All),
            ("/v2", Believed::Nothing),
            ("/v2/models/stats", Believed::Nothing),
            ("/v2/models/iris/infer", Believed::GzipAndDeflate),
        ] {
            assert!(Believed::at(path) == believed, "{path}");
        }
    }

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
        check(
            "application/vnd.sagemaker-triton.binary+json;json-header-size=9",
            1 << 20,
            false,
        );
        check("application/grpc", 1 << 20, false);
    }
}
