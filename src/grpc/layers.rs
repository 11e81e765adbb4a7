//! The whole middleware stack, outermost first, with a reason a line.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use tower::ServiceBuilder;
use tower::util::MapRequestLayer;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::TraceLayer;

use super::{App, edge, status};
use crate::error::Error;
use crate::exchange::trace;

/// Puts the stack around the services. Sizes and encodings of messages are tonic's matter.
pub fn stack(routes: Router, app: Arc<App>) -> Router {
    let stack = ServiceBuilder::new()
        // A client's own id must be fit for logs and headers.
        .layer(MapRequestLayer::new(
            trace::drop_unfit_request_id as fn(Request<Body>) -> Request<Body>,
        ))
        // Every call has an id, the client's or ours.
        .layer(SetRequestIdLayer::x_request_id(trace::RequestIds::default()))
        // The id comes back in the answer.
        .layer(PropagateRequestIdLayer::x_request_id())
        // Ends what takes too long; counts, logs, and completes every answer, whoever below made it.
        .layer(from_fn_with_state(app, edge::exchange))
        // Whatever is logged while a call is served carries its ids.
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(trace::span)
                .on_request(())
                .on_response(())
                .on_failure(()),
        )
        // A bug in a handler costs one call.
        .layer(CatchPanicLayer::custom(panicked));
    routes.layer(stack)
}

/// The panic itself is logged by the process's panic hook.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    status::status(Error::internal("a handler panicked")).into_http()
}
