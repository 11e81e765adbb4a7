//! The Open Inference Protocol, version 2, over REST: the server itself; each part of the protocol has a file.

pub mod config;
pub mod metadata;
pub mod repository;
pub mod statistics;

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::infer::{Face, infer};
use super::{App, error};
use crate::service::{NAME, VERSION};
use crate::serving::registry::Target;

type AppState = State<Arc<App>>;
type ModelVersion = Path<(String, String)>;

/// `GET /v2`
pub async fn server(State(app): AppState) -> Response {
    let extensions = app.service.extensions();
    ok(json!({ "name": NAME, "version": VERSION, "extensions": extensions }))
}

/// `GET /v2/health/live`
pub async fn live() -> Response {
    ok(json!({ "live": true }))
}

/// `GET /v2/health/ready`
pub async fn ready(State(app): AppState) -> Response {
    let ready = app.service.unready_reason().is_none();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    error::json_response(status, &json!({ "ready": ready }))
}

/// `GET /v2/models`
pub async fn models(State(app): AppState) -> Response {
    ok(json!({ "models": app.service.model_names() }))
}

/// `POST /v2/models/{model}/infer`
pub async fn infer_model(
    State(app): AppState,
    Path(model): Path<String>,
    request: Request,
) -> Response {
    infer(&app, Target::model(model), Face::Protocol, request).await
}

/// `POST /v2/models/{model}/versions/{version}/infer`
pub async fn infer_version(
    State(app): AppState,
    Path((model, version)): ModelVersion,
    request: Request,
) -> Response {
    let target = Target::version(model, version);
    infer(&app, target, Face::Protocol, request).await
}

fn ok(body: Value) -> Response {
    error::json_response(StatusCode::OK, &body)
}
