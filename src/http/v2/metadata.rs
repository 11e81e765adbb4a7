//! What a model takes and gives, and whether it is served.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{AppState, ModelVersion};
use crate::error::Result;
use crate::http::App;
use crate::http::error::answer;
use crate::service::metadata::{ModelMetadata, TensorMetadata};
use crate::serving::registry::Target;

/// `GET /v2/models/{model}`
pub async fn model(State(app): AppState, Path(model): Path<String>) -> Response {
    answer(metadata(&app, &Target::model(model)))
}

/// `GET /v2/models/{model}/versions/{version}`
pub async fn version(State(app): AppState, Path((model, version)): ModelVersion) -> Response {
    answer(metadata(&app, &Target::version(model, version)))
}

/// `GET /v2/models/{model}/ready`
pub async fn model_ready(State(app): AppState, Path(model): Path<String>) -> Response {
    answer(readiness(&app, &Target::model(model)))
}

/// `GET /v2/models/{model}/versions/{version}/ready`
pub async fn version_ready(State(app): AppState, Path((model, version)): ModelVersion) -> Response {
    answer(readiness(&app, &Target::version(model, version)))
}

fn metadata(app: &App, target: &Target) -> Result<Value> {
    let ModelMetadata {
        name,
        versions,
        platform,
        inputs,
        outputs,
        properties,
    } = app.service.metadata(target)?;
    let properties = properties.into_iter();
    let parameters = properties.map(|(name, value)| (name.to_owned(), value.into()));
    Ok(json!({
        "name": name,
        "versions": versions,
        "platform": platform,
        "inputs": inputs.into_iter().map(tensor).collect::<Value>(),
        "outputs": outputs.into_iter().map(tensor).collect::<Value>(),
        "parameters": parameters.collect::<Map<_, _>>(),
    }))
}

fn tensor(tensor: TensorMetadata) -> Value {
    let TensorMetadata {
        name,
        datatype,
        shape,
    } = tensor;
    json!({ "name": name, "datatype": datatype.name(), "shape": shape })
}

fn readiness(app: &App, target: &Target) -> Result<Value> {
    let deployment = app.service.deployment(target)?;
    Ok(json!({ "name": deployment.facts.model, "ready": true }))
}
