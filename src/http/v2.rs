//! The Open Inference Protocol, version 2, over REST: health, metadata and inference.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::infer::{Face, infer};
use super::{App, error};
use crate::error::Result;
use crate::service::{NAME, VERSION};
use crate::serving::deployment::PLATFORM;
use crate::serving::registry::Target;
use crate::tensor::signature::TensorSpec;

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

/// `GET /v2/models/{model}`
pub async fn model(State(app): AppState, Path(model): Path<String>) -> Response {
    answer(metadata(&app, named(model, None)))
}

/// `GET /v2/models/{model}/versions/{version}`
pub async fn version(State(app): AppState, Path((model, version)): ModelVersion) -> Response {
    answer(metadata(&app, named(model, Some(version))))
}

/// `GET /v2/models/{model}/ready`
pub async fn model_ready(State(app): AppState, Path(model): Path<String>) -> Response {
    answer(readiness(&app, named(model, None)))
}

/// `GET /v2/models/{model}/versions/{version}/ready`
pub async fn version_ready(State(app): AppState, Path((model, version)): ModelVersion) -> Response {
    answer(readiness(&app, named(model, Some(version))))
}

/// `POST /v2/models/{model}/infer`
pub async fn infer_model(
    State(app): AppState,
    Path(model): Path<String>,
    request: Request,
) -> Response {
    infer(&app, named(model, None), Face::Protocol, request).await
}

/// `POST /v2/models/{model}/versions/{version}/infer`
pub async fn infer_version(
    State(app): AppState,
    Path((model, version)): ModelVersion,
    request: Request,
) -> Response {
    infer(&app, named(model, Some(version)), Face::Protocol, request).await
}

fn named(model: String, version: Option<String>) -> Target {
    Target {
        model: Some(model),
        version,
    }
}

fn metadata(app: &App, target: Target) -> Result<Value> {
    let deployment = app.service.deployment(&target)?;
    let signature = deployment.signature();
    let tensors = |specs: &[TensorSpec]| specs.iter().map(tensor).collect::<Value>();
    Ok(json!({
        "name": deployment.facts.model,
        "versions": app.service.served_versions(&deployment.facts.model)?,
        "platform": PLATFORM,
        "inputs": tensors(&signature.inputs),
        "outputs": tensors(&signature.outputs),
        "parameters": { "engine": deployment.loaded.engine, "engine_reason": deployment.why },
    }))
}

fn tensor(spec: &TensorSpec) -> Value {
    json!({ "name": spec.name, "datatype": spec.dtype.name(), "shape": spec.wire_shape() })
}

fn readiness(app: &App, target: Target) -> Result<Value> {
    let deployment = app.service.deployment(&target)?;
    Ok(json!({ "name": deployment.facts.model, "ready": true }))
}

fn ok(body: Value) -> Response {
    error::json_response(StatusCode::OK, &body)
}

fn answer(result: Result<Value>) -> Response {
    match result {
        Ok(body) => ok(body),
        Err(error) => error::response(&error),
    }
}
