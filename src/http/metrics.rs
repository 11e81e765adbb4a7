//! The metrics endpoint.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::App;

/// `GET /metrics`, in Prometheus's text format 0.0.4.
pub async fn render(State(app): State<Arc<App>>) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, app.metrics.render()).into_response()
}
