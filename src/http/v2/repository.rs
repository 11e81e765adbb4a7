//! What is in the repository, and the control over what is served.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http_body_util::Limited;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::AppState;
use crate::error::{Error, Result};
use crate::http::App;
use crate::http::collect::collect;
use crate::http::error::answer;
use crate::service::repository::{Control, IndexEntry};

/// Triton's clients name it; no model depends on another here.
const DEPENDENTS: &str = "unload_dependents";

/// More is no request of these.
const MOST_BYTES: usize = 2 << 20;

/// What may be asked of the index.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

/// How a model is to be loaded or unloaded.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ControlRequest {
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// `POST /v2/repository/index`
pub async fn index(State(app): AppState, body: Body) -> Response {
    answer(read::<IndexRequest>(&app, body).await.map(|request| {
        let entries = app.service.index(request.ready).into_iter();
        entries.map(entry).collect()
    }))
}

/// `POST /v2/repository/models/{model}/load`
pub async fn load(State(app): AppState, Path(model): Path<String>, body: Body) -> Response {
    answer(match read_control(&app, body).await {
        Ok(request) => done(app.service.load(control(&app, &model, &request)).await),
        Err(error) => Err(error),
    })
}

/// `POST /v2/repository/models/{model}/unload`
pub async fn unload(State(app): AppState, Path(model): Path<String>, body: Body) -> Response {
    answer(match read_control(&app, body).await {
        Ok(request) => done(app.service.unload(control(&app, &model, &request)).await),
        Err(error) => Err(error),
    })
}

fn control<'a>(app: &App, model: &'a str, request: &'a ControlRequest) -> Control<'a> {
    Control {
        model,
        parameters: request.parameters.keys().map(String::as_str).collect(),
        door: app.door,
    }
}

/// Triton answers nothing at all, which is no JSON.
fn done(result: Result<()>) -> Result<Value> {
    result.map(|()| json!({}))
}

fn entry(entry: IndexEntry) -> Value {
    let IndexEntry {
        name,
        version,
        state,
        reason,
    } = entry;
    json!({ "name": name, "version": version, "state": state.name(), "reason": reason })
}

async fn read_control(app: &App, body: Body) -> Result<ControlRequest> {
    let request: ControlRequest = read(app, body).await?;
    match request.parameters.get(DEPENDENTS) {
        None | Some(Value::Bool(_)) => Ok(request),
        Some(other) => Err(Error::invalid(format!(
            "parameter '{DEPENDENTS}': expected true or false, got {other}"
        ))),
    }
}

/// A small JSON body; none is as good as an empty object.
async fn read<T: DeserializeOwned + Default>(app: &App, body: Body) -> Result<T> {
    let limit = app.limits.body_bytes.min(MOST_BYTES);
    let body = collect(
        Body::new(Limited::new(body, limit)),
        0,
        limit,
        &app.in_flight.hold(),
    )
    .await?;
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&body).map_err(|error| Error::invalid(format!("the body: {error}")))
}
