//! The whole middleware stack, outermost first, with a reason a line.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::Response;

use tower::ServiceBuilder;
use tower::util::{MapRequestLayer, option_layer};
use tower_http::body::Limited;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{Any as AnyOrigin, CorsLayer};
use tower_http::decompression::{DecompressionBody, RequestDecompressionLayer};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use super::paced::{Timely, in_turns};
use super::{App, edge, error};
use crate::config::{CorsOrigins, ServerConfig};
use crate::error::Error;
use crate::exchange::{DEADLINE_HEAD_START, trace};

/// Puts the stack around the routes.
pub fn stack(routes: Router, app: Arc<App>, config: &ServerConfig) -> Router {
    let body_bytes = app.limits.body_bytes;
    let body_timeout = config.connections.body_timeout;
    let longest = config.request_timeout + DEADLINE_HEAD_START;
    let timeout = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, longest);
    let stack = ServiceBuilder::new()
        // A client's own id must be fit for logs and headers.
        .layer(MapRequestLayer::new(
            trace::drop_unfit_request_id as fn(Request<Body>) -> Request<Body>,
        ))
        // Every request has an id, the client's or ours.
        .layer(SetRequestIdLayer::x_request_id(trace::RequestIds::default()))
        // The id comes back in the answer.
        .layer(PropagateRequestIdLayer::x_request_id())
        // Counts, logs, completes and compresses every answer, whoever below made it.
        .layer(from_fn_with_state(app, edge::exchange))
        // Whatever is logged while a request is served carries its ids.
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(trace::span)
                .on_request(())
                .on_response(())
                .on_failure(()),
        )
        // Off unless origins are configured.
        .layer(option_layer(cors(&config.cors_origins)))
        // A bug in a handler costs one request.
        .layer(CatchPanicLayer::custom(panicked))
        // No request is worked on for ever, reading its body included.
        .layer(timeout)
        // The layers below wrap bodies; here they are plain again.
        .map_response(|response: axum::http::Response<_>| response.map(Body::new))
        // A body that says it is too large is refused before it is read.
        .layer(RequestBodyLimitLayer::new(body_bytes))
        // A body that comes too slowly is an error to whoever reads it.
        .map_request(move |request: Request<Limited<Body>>| {
            request.map(|body| Timely::new(body, body_timeout))
        })
        // Content codings have no case, and two at once are another one.
        .map_request(one_encoding)
        // Reads gzip, deflate and zstd, answers 415 to other encodings.
        .layer(RequestDecompressionLayer::new())
        // Decompressing takes turns with everything else.
        .map_request(
            |request: Request<DecompressionBody<Timely<Limited<Body>>>>| request.map(in_turns),
        )
        // The same limit once more, on what the body grows to.
        .layer(RequestBodyLimitLayer::new(body_bytes));
    routes.layer(stack)
}

/// Writes the encodings as the layer below compares them: in one header, which is all that it looks at, and small.
fn one_encoding<B>(mut request: Request<B>) -> Request<B> {
    let headers = request.headers_mut();
    let encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    let encodings: Vec<_> = encodings.map(HeaderValue::as_bytes).collect();
    let small = encodings.join(&b", "[..]).to_ascii_lowercase();
    if let (false, Ok(small)) = (small.is_empty(), HeaderValue::from_bytes(&small)) {
        headers.insert(header::CONTENT_ENCODING, small);
    }
    request
}

fn cors(origins: &CorsOrigins) -> Option<CorsLayer> {
    let layer = CorsLayer::new()
        .allow_methods(AnyOrigin)
        .allow_headers(AnyOrigin)
        .expose_headers(AnyOrigin);
    match origins {
        CorsOrigins::Off => None,
        CorsOrigins::Any => Some(layer.allow_origin(AnyOrigin)),
        CorsOrigins::List(origins) => {
            let origins = origins
                .iter()
                .filter_map(|origin| HeaderValue::from_str(origin).ok());
            Some(layer.allow_origin(origins.collect::<Vec<_>>()))
        }
    }
}

/// The panic itself is logged by the process's panic hook.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    error::response(&Error::internal("a handler panicked"))
}
