//! Inference over HTTP: reads a body, runs it, writes the answer in the style of the request.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt;

use super::edge::Inference;
use super::paced::unread;
use super::{App, error};
use crate::error::{Error, Result};
use crate::oip::Style;
use crate::oip::request::{DecodedRequest, decode};
use crate::oip::response::{Answer, encode};
use crate::service::Call;
use crate::service::types::{InferRequest, InferResponse};
use crate::serving::deployment::Deployment;
use crate::serving::lane::Timing;
use crate::serving::registry::Target;

/// JSON beyond this many bytes is read and written off the async threads' own time, so that probes never wait for it.
const LARGE_BYTES: usize = 256 << 10;
const TIMEOUT_HEADER: &str = "x-request-timeout-ms";

/// What a route accepts and adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// `/predict`: every style, and class names beside the classes.
    Predict,
    /// The Open Inference Protocol to the letter.
    Protocol,
}

/// `POST /predict`
pub async fn predict_default(State(app): State<Arc<App>>, request: Request) -> Response {
    infer(&app, Target::default(), Face::Predict, request).await
}

/// `POST /predict/{model}`
pub async fn predict_model(
    State(app): State<Arc<App>>,
    Path(model): Path<String>,
    request: Request,
) -> Response {
    infer(
        &app,
        Target {
            model: Some(model),
            version: None,
        },
        Face::Predict,
        request,
    )
    .await
}

/// `POST /predict/{model}/{version}`
pub async fn predict_version(
    State(app): State<Arc<App>>,
    Path((model, version)): Path<(String, String)>,
    request: Request,
) -> Response {
    infer(
        &app,
        Target {
            model: Some(model),
            version: Some(version),
        },
        Face::Predict,
        request,
    )
    .await
}

/// Answers an inference request to `target`.
pub async fn infer(app: &App, target: Target, face: Face, request: Request) -> Response {
    let call = match app.service.call(&target) {
        Ok(call) => call,
        Err(error) => return error::response(&error),
    };
    let mut told = Inference {
        deployment: call.deployment().clone(),
        rows: 0,
        timing: Timing::default(),
    };
    let mut response = match run(app, call, face, request, &mut told).await {
        Ok(body) => error::json_bytes(StatusCode::OK, body),
        Err(error) => error::response(&error),
    };
    response.extensions_mut().insert(told);
    response
}

/// The answer's body; what the log should know goes to `told`.
async fn run(
    app: &App,
    call: Call,
    face: Face,
    request: Request,
    told: &mut Inference,
) -> Result<Vec<u8>> {
    let deployment = call.deployment().clone();
    let (parts, body) = request.into_parts();
    let (decoded, timeout) = match read(app, &deployment, face, &parts.headers, body).await {
        Ok(read) => read,
        Err(error) => return Err(call.fail(error)),
    };
    let DecodedRequest {
        style,
        id,
        parameters,
        inputs,
        outputs,
    } = decoded;
    let response = call
        .run(InferRequest {
            inputs,
            outputs,
            timeout,
        })
        .await?;
    let InferResponse {
        mut outputs,
        class_names,
        rows,
        timing,
    } = response;
    (told.rows, told.timing) = (rows, timing);
    if face == Face::Predict {
        outputs.extend(class_names);
    }
    let answer = Answer {
        model_name: &deployment.facts.model,
        model_version: &deployment.facts.version,
        id: id.as_deref(),
        signature: deployment.signature(),
        outputs: &outputs,
    };
    let bytes: usize = outputs
        .iter()
        .map(|output| output.tensor.data().len())
        .sum();
    aside(bytes, || encode(&answer, style, parameters.nan))
}

/// The request as it was written, and how long its client waits.
async fn read(
    app: &App,
    deployment: &Deployment,
    face: Face,
    headers: &HeaderMap,
    body: Body,
) -> Result<(DecodedRequest, Option<Duration>)> {
    let header_timeout = header_timeout(headers)?;
    let body = collect(app, body).await?;
    let decoded = aside(body.len(), || {
        decode(&body, deployment.signature(), &app.limits)
    })?;
    if face == Face::Protocol && decoded.style != Style::Protocol {
        return Err(Error::invalid(
            "expected 'inputs' as a list of tensor objects with 'name', 'shape', 'datatype' and 'data'; /predict takes other styles",
        ));
    }
    let timeout = decoded
        .parameters
        .timeout_us
        .map(Duration::from_micros)
        .into_iter()
        .chain(header_timeout)
        .min();
    Ok((decoded, timeout))
}

fn header_timeout(headers: &HeaderMap) -> Result<Option<Duration>> {
    let Some(value) = headers.get(TIMEOUT_HEADER) else {
        return Ok(None);
    };
    let millis = value
        .to_str()
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .filter(|millis| *millis > 0);
    match millis {
        Some(millis) => Ok(Some(Duration::from_millis(millis))),
        None => Err(Error::invalid(format!(
            "header {TIMEOUT_HEADER}: expected a whole number of milliseconds of at least 1, got '{}'",
            String::from_utf8_lossy(value.as_bytes())
        ))),
    }
}

async fn collect(app: &App, body: Body) -> Result<Bytes> {
    match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(unread(error.into_inner(), app.limits.body_bytes)),
    }
}

/// Runs `work` at once if it is short; else where it keeps no other request waiting.
fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LARGE_BYTES {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}
