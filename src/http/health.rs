//! Health: a summary for people and load balancers, and the probes of Kubernetes.
//!
//! Nothing here touches a queue or waits for a model.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{App, error};
use crate::error::Error;
use crate::repository::remote::{Reach, State as StoreState, Status};
use crate::service::types::{EngineStatus, ModelStatus, Summary};
use crate::service::{NAME, VERSION};
use crate::serving::agreement::verdict::Finding;

/// `GET /health`: 200 when ready, else 503, with the state of every model.
pub async fn summary(State(app): State<Arc<App>>) -> Response {
    let Summary {
        unready_reason,
        uptime,
        default_model,
        models,
        remote,
    } = app.service.summary();
    let status = if unready_reason.is_some() {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let mut body = Map::new();
    body.insert(
        "status".into(),
        if unready_reason.is_some() {
            "unavailable"
        } else {
            "ready"
        }
        .into(),
    );
    if let Some(reason) = unready_reason {
        body.insert("error".into(), reason.into());
    }
    body.insert("name".into(), NAME.into());
    body.insert("version".into(), VERSION.into());
    body.insert(
        "uptime_seconds".into(),
        (uptime.as_millis() as f64 / 1e3).into(),
    );
    body.insert("default_model".into(), default_model.into());
    body.insert("models".into(), models.into_iter().map(model).collect());
    if let Some(status) = remote {
        body.insert("repository".into(), repository(&status));
    }
    error::json_response(status, &Value::Object(body))
}

/// How the store is that the models are mirrored from.
fn repository(status: &Status) -> Value {
    let StoreState {
        reach,
        last_success,
        incomplete,
    } = status.state();
    let mut repository = Map::new();
    repository.insert("url".into(), status.url().into());
    let (is_reachable, reason) = match reach {
        Reach::Unknown => (Value::Null, None),
        Reach::Up => (true.into(), None),
        Reach::Away(reason) => (false.into(), Some(reason)),
    };
    repository.insert("reachable".into(), is_reachable);
    if let Some(reason) = reason {
        repository.insert("reason".into(), reason.into());
    }
    let age = last_success.map(|time| time.elapsed().unwrap_or_default().as_secs());
    repository.insert("seconds_since_success".into(), age.into());
    if !incomplete.is_empty() {
        let incomplete = incomplete.into_iter();
        let incomplete: Map<_, _> = incomplete
            .map(|(unit, reason)| (unit, reason.into()))
            .collect();
        repository.insert("incomplete".into(), incomplete.into());
    }
    Value::Object(repository)
}

fn model(status: ModelStatus) -> Value {
    let ModelStatus {
        name,
        version,
        state,
        reason,
        labels,
        engine,
    } = status;
    let mut model = Map::new();
    model.insert("name".into(), name.into());
    model.insert("version".into(), version.into());
    model.insert("state".into(), state.into());
    if let Some(reason) = reason {
        model.insert("reason".into(), reason.into());
    }
    if !labels.is_empty() {
        model.insert("labels".into(), labels.into());
    }
    if let Some(status) = engine {
        let EngineStatus {
            name,
            why,
            split,
            batching,
            findings,
        } = status;
        model.insert("engine".into(), name.into());
        model.insert("engine_reason".into(), why.into());
        model.insert("workers".into(), split.workers.into());
        model.insert("threads_per_worker".into(), split.threads.into());
        model.insert("batch_rows".into(), batching.decision.rows.into());
        model.insert("batch_reason".into(), batching.reason().into());
        model.insert(
            "engines".into(),
            findings.into_iter().map(finding).collect(),
        );
    }
    Value::Object(model)
}

fn finding(finding: Finding) -> Value {
    let Finding {
        engine,
        standing,
        reason,
        ..
    } = finding;
    json!({ "name": engine, "standing": standing.name(), "reason": reason })
}

/// `GET /health/ready`: 200 when the server should be sent traffic, else 503 with the reason.
pub async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.service.unready_reason() {
        None => error::json_response(StatusCode::OK, &json!({ "status": "ready" })),
        Some(reason) => {
            error::response(&Error::unavailable(reason).with_retry_after(Duration::from_secs(1)))
        }
    }
}

/// `GET /health/live`: 200 for as long as the process answers.
pub async fn live() -> Response {
    error::json_response(StatusCode::OK, &json!({ "status": "live" }))
}
