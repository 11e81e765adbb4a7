//! Inference over HTTP: reads a body, runs it, writes the answer in the style of the request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;
use tokio::time::timeout;

use super::collect::collect;
use super::connections::unread::may_stay_unread;
use super::{App, binary, csv, error};
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::access::Inference;
use crate::exchange::aside::{aside_in_turn, cost};
use crate::in_flight::{Held, Room};
use crate::oip::Style;
use crate::oip::binary::{RawOutputs, decode_parts, encode};
use crate::oip::request::{DecodedRequest, decode};
use crate::oip::response::{Answer, ModelRef};
use crate::service::Call;
use crate::service::types::{InferRequest, InferResponse};
use crate::serving::deployment::Deployment;
use crate::serving::registry::Target;
use crate::tensor::signature::Signature;
use crate::tensor::value::NamedTensor;

const TIMEOUT_HEADER: &str = "x-request-timeout-ms";

/// What a route accepts and adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// `/predict`: every style, and class names beside the classes.
    Predict,
    /// The same for rows of CSV.
    Csv,
    /// The Open Inference Protocol to the letter.
    Protocol,
    /// TensorFlow Serving's rows and columns to the letter.
    TensorFlow,
}

impl Face {
    /// Why a request in this style cannot be answered here, if so.
    fn refusal(self, style: Style) -> Option<&'static str> {
        match (self, style) {
            (Face::Protocol, Style::Rows | Style::Columns) => Some(
                "expected 'inputs' as a list of tensor objects with 'name', 'shape', 'datatype' and 'data'; /predict takes other styles",
            ),
            (Face::TensorFlow, Style::Protocol) => Some(
                "expected 'instances', or 'inputs' with values; /v2 and /predict take tensor objects",
            ),
            _ => None,
        }
    }

    /// Whether an answer has class names beside the classes.
    fn names_classes(self) -> bool {
        matches!(self, Face::Predict | Face::Csv)
    }

    /// Whether an answer says which model it comes from.
    fn names_model(self) -> bool {
        self != Face::TensorFlow
    }
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
    infer(&app, Target::model(model), Face::Predict, request).await
}

/// `POST /predict/{model}/{version}`
pub async fn predict_version(
    State(app): State<Arc<App>>,
    Path((model, version)): Path<(String, String)>,
    request: Request,
) -> Response {
    let target = Target::version(model, version);
    infer(&app, target, Face::Predict, request).await
}

/// Answers an inference request to `target`.
pub async fn infer(app: &App, target: Target, face: Face, request: Request) -> Response {
    let call = match app.service.call(&target) {
        Ok(call) => call,
        Err(error) => return error::response(&error),
    };
    let mut told = Inference::on(call.deployment());
    let answered = run(app, call, face, request, &mut told).await;
    let mut response = answered.unwrap_or_else(|error| error::response(&error));
    response.extensions_mut().insert(told);
    response
}

/// The answer; what the log should know goes to `told`.
async fn run(
    app: &App,
    call: Call,
    face: Face,
    request: Request,
    told: &mut Inference,
) -> Result<Response> {
    let deployment = call.deployment().clone();
    let (parts, body) = request.into_parts();
    if may_stay_unread(&parts.headers, &body)
        && let Err(error) = deployment.check_place()
    {
        return Err(call.fail(error));
    }
    let held = app.in_flight.hold();
    let Read {
        decoded,
        timeout,
        decoding,
    } = match read(app, &deployment, face, &parts.headers, (body, &held)).await {
        Ok(read) => read,
        Err(error) => return Err(call.fail(error)),
    };
    let raw = RawOutputs::of(&decoded);
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
            outputs: outputs.into_iter().map(Into::into).collect(),
            timeout,
            queue_timeout: parameters.timeout,
            priority: parameters.priority,
            decoding,
            room: Room::new(held.clone(), raw.written_per_byte(deployment.signature())),
        })
        .await?;
    let InferResponse {
        mut outputs,
        class_names,
        rows,
        timing,
        ending,
    } = response;
    (told.rows, told.timing) = (rows, timing);
    if face.names_classes() {
        outputs.extend(class_names);
    }
    let model = ModelRef {
        name: &deployment.facts.model,
        version: &deployment.facts.version,
    };
    let answer = Answer {
        model: face.names_model().then_some(model),
        id: id.as_deref().filter(|_| face.names_model()),
        signature: deployment.signature(),
        outputs: &outputs,
    };
    let cost = cost_of_writing(&outputs, &raw);
    let encoded = aside_in_turn(cost, || encode(&answer, style, parameters.nan, &raw)).await;
    // From here on there is nothing else of the request.
    drop(outputs);
    let answer = encoded.and_then(|encoded| {
        held.set(encoded.body.len())?;
        Ok(binary::response(encoded, held))
    });
    ending.told(answer)
}

/// The request as it was written.
struct Read {
    decoded: DecodedRequest,
    /// How long its client waits, by its header.
    timeout: Option<Duration>,
    /// How long decoding took, once all of it was there.
    decoding: Duration,
}

async fn read(
    app: &App,
    deployment: &Deployment,
    face: Face,
    headers: &HeaderMap,
    body: (Body, &Held),
) -> Result<Read> {
    let header_timeout = header_timeout(headers)?;
    let json_length = binary::json_length(headers)?;
    if face == Face::Csv && json_length.is_some() {
        return Err(Error::invalid(format!(
            "header {}: expected none with text/csv",
            binary::NAME
        )));
    }
    let reading = decoded(app, deployment, face, json_length, body);
    let (decoded, decoding) = match header_timeout {
        None => reading.await?,
        Some(longest) => timeout(longest, reading).await.map_err(|_| late())??,
    };
    if let Some(refusal) = face.refusal(decoded.style) {
        return Err(Error::invalid(refusal));
    }
    Ok(Read {
        decoded,
        timeout: header_timeout,
        decoding,
    })
}

fn late() -> Error {
    Error::new(
        ErrorKind::DeadlineExceeded,
        "the deadline passed before the request was read",
    )
}

/// What the body says, and how long it took to find that out.
async fn decoded(
    app: &App,
    deployment: &Deployment,
    face: Face,
    json_length: Option<usize>,
    (body, held): (Body, &Held),
) -> Result<(DecodedRequest, Duration)> {
    let body = collect(body, json_length.unwrap_or(0), app.limits.body_bytes, held).await?;
    let json_bytes = json_length.unwrap_or(body.len());
    binary::check_length(json_bytes, body.len())?;
    let (signature, limits) = (deployment.signature(), &app.limits);
    let cost = cost(json_bytes, body.len() - json_bytes);
    aside_in_turn(cost, || {
        let started = Instant::now();
        held.take(most_to_decode(&body[..json_bytes], signature))?;
        let (decoded, kept) = match json_length {
            None if face == Face::Csv => {
                held.take(csv::most_as_rows(&body))?;
                let rows = csv::as_rows(&body)?;
                (decode(rows.as_bytes(), signature, limits)?, 0)
            }
            None => (decode(&body, signature, limits)?, 0),
            // Raw tensors are slices of the body, and keep all of it.
            Some(json_bytes) => (
                decode_parts(body, json_bytes, signature, limits)?,
                json_bytes,
            ),
        };
        let inputs = decoded.inputs.iter();
        let tensors: usize = inputs.map(|input| input.tensor.data().len()).sum();
        held.set(kept + tensors)?;
        Ok((decoded, started.elapsed()))
    })
    .await
}

/// The most that tensors take while they are read from JSON, where buffers grow by doubling. Commas stand between
/// elements, and between the lines of CSV nothing else does.
fn most_to_decode(json: &[u8], signature: &Signature) -> usize {
    let between = |byte: &&u8| matches!(byte, b',' | b'\n');
    let elements = 1 + json.iter().filter(between).count();
    let most = signature
        .inputs
        .iter()
        .map(|input| match input.dtype.width() {
            Some(width) => elements * width,
            None => elements * size_of::<u32>() + json.len(),
        });
    2 * most.max().unwrap_or(0)
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

fn cost_of_writing(outputs: &[NamedTensor], raw: &RawOutputs) -> usize {
    let costs = outputs.iter().map(|output| {
        let bytes = output.tensor.data().len();
        match raw.contains(&output.name) {
            true => cost(0, bytes),
            false => cost(bytes, 0),
        }
    });
    costs.sum()
}
