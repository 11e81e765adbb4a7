//! A model's configuration as Triton writes it in JSON, for the clients that ask for it before they send requests.
//!
//! Keys that would say something else than that a model is stateless and answers each request once are left out:
//! perf_analyzer takes the mere presence of `sequence_batching` or `ensemble_scheduling` for a yes.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::{AppState, ModelVersion};
use crate::error::Result;
use crate::http::App;
use crate::http::error::answer;
use crate::repository::manifest::VersionPolicy;
use crate::repository::scheduling::TimeoutAction;
use crate::service::model_config::{
    DynamicBatching, InstanceGroup, ModelConfig, QueuePolicyConfig, TensorConfig,
};
use crate::serving::registry::Target;
use crate::tensor::dtype::DataType;

/// `GET /v2/models/{model}/config`
pub async fn model(State(app): AppState, Path(model): Path<String>) -> Response {
    answer(config(&app, &Target::model(model)))
}

/// `GET /v2/models/{model}/versions/{version}/config`
pub async fn version(State(app): AppState, Path((model, version)): ModelVersion) -> Response {
    answer(config(&app, &Target::version(model, version)))
}

fn config(app: &App, target: &Target) -> Result<Value> {
    let ModelConfig {
        name,
        platform,
        backend,
        version_policy,
        max_batch_size,
        inputs,
        outputs,
        instance_group,
        dynamic_batching,
        default_model_filename,
        parameters,
    } = app.service.model_config(target)?;
    let parameters = parameters.into_iter();
    let parameters =
        parameters.map(|(name, value)| (name.to_owned(), json!({ "string_value": value })));
    let InstanceGroup {
        name: group_name,
        count,
    } = instance_group;
    let mut config = json!({
        "name": name,
        "platform": platform,
        "backend": backend,
        "version_policy": policy(&version_policy),
        "max_batch_size": max_batch_size,
        "input": inputs.into_iter().map(input).collect::<Value>(),
        "output": outputs.into_iter().map(output).collect::<Value>(),
        "instance_group": [{ "name": group_name, "kind": "KIND_CPU", "count": count }],
        "default_model_filename": default_model_filename,
        "parameters": parameters.collect::<Map<_, _>>(),
        "model_transaction_policy": { "decoupled": false },
    });
    if let Some(batching) = dynamic_batching {
        config["dynamic_batching"] = dynamic(batching);
    }
    Ok(config)
}

fn dynamic(batching: DynamicBatching) -> Value {
    let DynamicBatching {
        preferred_batch_size,
        max_queue_delay_us,
        priority_levels,
        default_priority_level,
        default_queue_policy,
        priority_queue_policy,
    } = batching;
    let policies = priority_queue_policy.into_iter();
    let policies = policies.map(|(level, policy)| (level.to_string(), queue_policy(policy)));
    json!({
        "preferred_batch_size": preferred_batch_size,
        "max_queue_delay_microseconds": max_queue_delay_us,
        "preserve_ordering": false,
        "priority_levels": priority_levels,
        "default_priority_level": default_priority_level,
        "default_queue_policy": queue_policy(default_queue_policy),
        "priority_queue_policy": policies.collect::<Map<_, _>>(),
    })
}

fn queue_policy(policy: QueuePolicyConfig) -> Value {
    let QueuePolicyConfig {
        timeout_action,
        default_timeout_us,
        allow_timeout_override,
        max_queue_size,
    } = policy;
    let action = match timeout_action {
        TimeoutAction::Reject => "REJECT",
        TimeoutAction::Delay => "DELAY",
    };
    json!({
        "timeout_action": action,
        "default_timeout_microseconds": default_timeout_us,
        "allow_timeout_override": allow_timeout_override,
        "max_queue_size": max_queue_size,
    })
}

fn policy(policy: &VersionPolicy) -> Value {
    match policy {
        VersionPolicy::Latest(count) => json!({ "latest": { "num_versions": count } }),
        VersionPolicy::All => json!({ "all": {} }),
        VersionPolicy::Pinned(versions) => json!({ "specific": { "versions": versions } }),
    }
}

fn input(tensor: TensorConfig) -> Value {
    let TensorConfig {
        name,
        datatype,
        dims,
        label_filename: _,
    } = tensor;
    json!({
        "name": name,
        "data_type": data_type(datatype),
        "format": "FORMAT_NONE",
        "dims": dims,
        "is_shape_tensor": false,
        "allow_ragged_batch": false,
        "optional": false,
    })
}

fn output(tensor: TensorConfig) -> Value {
    let TensorConfig {
        name,
        datatype,
        dims,
        label_filename,
    } = tensor;
    json!({
        "name": name,
        "data_type": data_type(datatype),
        "dims": dims,
        "label_filename": label_filename.unwrap_or_default(),
        "is_shape_tensor": false,
    })
}

/// The type as a model's configuration calls it, which is not as tensors do for text alone.
fn data_type(datatype: DataType) -> String {
    match datatype {
        DataType::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{}", other.name()),
    }
}
