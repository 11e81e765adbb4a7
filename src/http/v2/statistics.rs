//! What models have done, as the statistics extension writes it. Clients rely on every field being there.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::{AppState, ModelVersion};
use crate::error::Result;
use crate::http::App;
use crate::http::error::answer;
use crate::service::statistics::ModelStatistics;
use crate::serving::registry::Target;
use crate::serving::statistics::{
    Counts, InferBatchStatistics, InferStatistics, StatisticDuration,
};

/// `GET /v2/models/stats`
pub async fn models(State(app): AppState) -> Response {
    answer(statistics(&app, None))
}

/// `GET /v2/models/{model}/stats`
pub async fn model(State(app): AppState, Path(model): Path<String>) -> Response {
    answer(statistics(&app, Some(&Target::model(model))))
}

/// `GET /v2/models/{model}/versions/{version}/stats`
pub async fn version(State(app): AppState, Path((model, version)): ModelVersion) -> Response {
    answer(statistics(&app, Some(&Target::version(model, version))))
}

fn statistics(app: &App, target: Option<&Target>) -> Result<Value> {
    let statistics = app.service.statistics(target)?;
    Ok(json!({ "model_stats": statistics.into_iter().map(of).collect::<Value>() }))
}

fn of(statistics: ModelStatistics) -> Value {
    let ModelStatistics {
        name,
        version,
        counts,
    } = statistics;
    let Counts {
        last_inference_ms,
        inference_count,
        execution_count,
        inference,
        batches,
    } = counts;
    json!({
        "name": name,
        "version": version,
        "last_inference": last_inference_ms,
        "inference_count": inference_count,
        "execution_count": execution_count,
        "inference_stats": requests(inference),
        "batch_stats": batches.into_iter().map(runs).collect::<Value>(),
        "memory_usage": [],
    })
}

fn requests(statistics: InferStatistics) -> Value {
    let InferStatistics {
        success,
        fail,
        queue,
        compute_input,
        compute_infer,
        compute_output,
        cache_hit,
        cache_miss,
    } = statistics;
    json!({
        "success": leaf(success),
        "fail": leaf(fail),
        "queue": leaf(queue),
        "compute_input": leaf(compute_input),
        "compute_infer": leaf(compute_infer),
        "compute_output": leaf(compute_output),
        "cache_hit": leaf(cache_hit),
        "cache_miss": leaf(cache_miss),
    })
}

fn runs(statistics: InferBatchStatistics) -> Value {
    let InferBatchStatistics {
        batch_size,
        compute_input,
        compute_infer,
        compute_output,
    } = statistics;
    json!({
        "batch_size": batch_size,
        "compute_input": leaf(compute_input),
        "compute_infer": leaf(compute_infer),
        "compute_output": leaf(compute_output),
    })
}

fn leaf(StatisticDuration { count, ns }: StatisticDuration) -> Value {
    json!({ "count": count, "ns": ns })
}
