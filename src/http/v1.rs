//! The REST API of TensorFlow Serving, which version 1 of KServe's protocol took over.
//!
//! Where the two differ, an answer has the keys of both: a client of either finds its own and passes over the rest.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{Method, Uri};
use axum::response::Response;
use serde_json::{Value, json};

use super::App;
use super::error::{self, answer};
use super::infer::{Face, infer};
use crate::config::validate::canonical_version;
use crate::error::{Error, Result};
use crate::repository::Version;
use crate::repository::manifest::quoted;
use crate::service::types::ModelStatus;
use crate::serving::registry::Target;
use crate::tensor::dtype::DataType;
use crate::tensor::signature::{Signature, TensorSpec};

type AppState = State<Arc<App>>;
/// A model with a version, or with a label for one.
type Named = Path<(String, String)>;

/// `GET /v1/models`
pub async fn models(State(app): AppState) -> Response {
    answer(Ok(json!({ "models": app.service.model_names() })))
}

/// `GET /v1/models/{model}`
pub async fn model(State(app): AppState, Path(model): Path<String>, uri: Uri) -> Response {
    match verb_of(&model) {
        None => answer(status(&app, Target::model(model))),
        Some(_) => error::not_allowed(&app, &Method::GET, &uri),
    }
}

/// `GET /v1/models/{model}/versions/{version}`
pub async fn version(State(app): AppState, Path((model, version)): Named, uri: Uri) -> Response {
    match verb_of(&version) {
        None => answer(status(&app, Target::version(model, version))),
        Some(_) => error::not_allowed(&app, &Method::GET, &uri),
    }
}

/// `GET /v1/models/{model}/labels/{label}`
pub async fn label(State(app): AppState, Path((model, label)): Named, uri: Uri) -> Response {
    match verb_of(&label) {
        None => answer(labelled(&app, &model, &label).and_then(|target| status(&app, target))),
        Some(_) => error::not_allowed(&app, &Method::GET, &uri),
    }
}

/// `GET /v1/models/{model}/metadata`
pub async fn model_metadata(State(app): AppState, Path(model): Path<String>) -> Response {
    answer(metadata(&app, Target::model(model)))
}

/// `GET /v1/models/{model}/versions/{version}/metadata`
pub async fn version_metadata(State(app): AppState, Path((model, version)): Named) -> Response {
    answer(metadata(&app, Target::version(model, version)))
}

/// `GET /v1/models/{model}/labels/{label}/metadata`
pub async fn label_metadata(State(app): AppState, Path((model, label)): Named) -> Response {
    answer(labelled(&app, &model, &label).and_then(|target| metadata(&app, target)))
}

/// `POST /v1/models/{model}:predict`
pub async fn predict_model(
    State(app): AppState,
    Path(model): Path<String>,
    request: Request,
) -> Response {
    predict(&app, &model, request, |model| Ok(Target::model(model))).await
}

/// `POST /v1/models/{model}/versions/{version}:predict`
pub async fn predict_version(
    State(app): AppState,
    Path((model, version)): Named,
    request: Request,
) -> Response {
    let target = |version| Ok(Target::version(model, version));
    predict(&app, &version, request, target).await
}

/// `POST /v1/models/{model}/labels/{label}:predict`
pub async fn predict_label(
    State(app): AppState,
    Path((model, label)): Named,
    request: Request,
) -> Response {
    let target = |label: String| labelled(&app, &model, &label);
    predict(&app, &label, request, target).await
}

/// Runs the model that `target` makes of what stands before the verb.
async fn predict(
    app: &App,
    segment: &str,
    request: Request,
    target: impl FnOnce(String) -> Result<Target>,
) -> Response {
    let Some((name, verb)) = verb_of(segment) else {
        return error::not_allowed(app, request.method(), request.uri());
    };
    let target = match (target(name.to_owned()), verb) {
        (Err(error), _) => return error::response(&error),
        (Ok(target), "predict") => target,
        (Ok(_), "classify" | "regress" | "explain") => {
            let message = format!("'{verb}' is not implemented; an ONNX model has 'predict' only");
            return error::response(&Error::unimplemented(message));
        }
        (Ok(_), _) => {
            let message = format!("unknown method '{verb}' of a model; the only one is 'predict'");
            return error::response(&Error::not_found(message));
        }
    };
    infer(app, target, Face::TensorFlow, request).await
}

/// A path's last segment as a name and what to do with it: `iris:predict`. A router takes no such segment apart.
fn verb_of(segment: &str) -> Option<(&str, &str)> {
    segment.rsplit_once(':')
}

/// The version with a label, which is looked up together with the version, so that no label moves in between.
fn labelled(app: &App, model: &str, label: &str) -> Result<Target> {
    let labels = app.service.labels(model)?;
    if labels.contains_key(label) {
        return Ok(Target::version(model, label));
    }
    let versions = app.service.served_versions(model)?.join(", ");
    let mut message = format!(
        "model '{model}' has no version with the label '{label}'; the versions served are {versions}"
    );
    if !labels.is_empty() {
        message.push_str("; the labels are ");
        message.push_str(&quoted(labels.keys()));
    }
    Err(Error::not_found(message))
}

/// The states of a model's versions, newest first, or of one of them.
fn status(app: &App, target: Target) -> Result<Value> {
    let name = target.model.as_deref().unwrap_or_default();
    let labels = app.service.labels(name).unwrap_or_default();
    let number = |written: &str| {
        let labelled = labels.get(written).map(Version::to_string);
        canonical_version(written).or(labelled)
    };
    let wanted = target.version.as_deref().map(number);
    let is_wanted = |status: &ModelStatus| {
        status.name == name
            && status.version.is_some()
            && wanted
                .as_ref()
                .is_none_or(|wanted| status.version == *wanted)
    };
    let models = app.service.summary().models;
    let versions: Vec<Value> = models
        .iter()
        .rev()
        .filter(|status| is_wanted(status))
        .map(version_status)
        .collect();
    let deployment = app.service.deployment(&target);
    match deployment {
        Err(error) if versions.is_empty() => Err(error),
        _ => Ok(json!({
            "model_version_status": versions,
            "name": name,
            "ready": deployment.is_ok(),
        })),
    }
}

fn version_status(status: &ModelStatus) -> Value {
    let (state, code) = match status.state {
        "ready" => ("AVAILABLE", "OK"),
        "loading" => ("LOADING", "OK"),
        "draining" => ("UNLOADING", "OK"),
        "unloaded" => ("END", "OK"),
        _ => ("END", "INTERNAL"),
    };
    json!({
        "version": status.version,
        "state": state,
        "status": { "error_code": code, "error_message": status.reason.as_deref().unwrap_or_default() },
    })
}

/// What the model's only signature is called, as in every model that TensorFlow saves for serving.
const SIGNATURE: &str = "serving_default";

fn metadata(app: &App, target: Target) -> Result<Value> {
    let deployment = app.service.deployment(&target)?;
    let Signature { inputs, outputs } = deployment.signature();
    let tensors = |specs: &[TensorSpec]| -> Value {
        let tensors = specs.iter().map(|spec| (spec.name.clone(), tensor(spec)));
        Value::Object(tensors.collect())
    };
    let signature = json!({
        "inputs": tensors(inputs),
        "outputs": tensors(outputs),
        "method_name": "tensorflow/serving/predict",
    });
    Ok(json!({
        "model_spec": {
            "name": deployment.facts.model,
            "signature_name": "",
            "version": deployment.facts.version,
        },
        "metadata": { "signature_def": { "signature_def": { SIGNATURE: signature } } },
    }))
}

/// A tensor's description as protobuf's JSON has it: 64-bit numbers are strings.
fn tensor(spec: &TensorSpec) -> Value {
    let dims = spec.dims.as_deref().unwrap_or_default();
    let dims = dims
        .iter()
        .map(|dim| json!({ "size": dim.to_string(), "name": "" }));
    json!({
        "dtype": tensorflow_name(spec.dtype),
        "tensor_shape": { "dim": dims.collect::<Value>(), "unknown_rank": spec.dims.is_none() },
        "name": spec.name,
    })
}

fn tensorflow_name(dtype: DataType) -> &'static str {
    match dtype {
        DataType::Bool => "DT_BOOL",
        DataType::UInt8 => "DT_UINT8",
        DataType::UInt16 => "DT_UINT16",
        DataType::UInt32 => "DT_UINT32",
        DataType::UInt64 => "DT_UINT64",
        DataType::Int8 => "DT_INT8",
        DataType::Int16 => "DT_INT16",
        DataType::Int32 => "DT_INT32",
        DataType::Int64 => "DT_INT64",
        DataType::Fp16 => "DT_HALF",
        DataType::Bf16 => "DT_BFLOAT16",
        DataType::Fp32 => "DT_FLOAT",
        DataType::Fp64 => "DT_DOUBLE",
        DataType::Bytes => "DT_STRING",
    }
}
