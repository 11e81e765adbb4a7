//! Amazon SageMaker's `/invocations`; its `/ping` is `/health/ready`.
//!
//! What it adds to `/predict` are two media types, and each is only another spelling: Triton's for the binary tensor
//! extension, since SageMaker passes no headers on, and CSV for rows of numbers.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use super::App;
use super::binary::JSON_LENGTH;
use super::infer::{Face, infer};
use crate::serving::registry::Target;

/// Triton's type of bodies with raw tensors.
pub const TRITON_BINARY: &str = "application/vnd.sagemaker-triton.binary+json";
/// Its spelling of the binary extension's header.
const TRITON_LENGTH: &str = "application/vnd.sagemaker-triton.binary+json;json-header-size=";

/// `POST /invocations`
pub async fn invoke(State(app): State<Arc<App>>, mut request: Request) -> Response {
    let face = match is_csv(request.headers()) {
        true => Face::Csv,
        false => Face::Predict,
    };
    let is_triton = from_triton(request.headers_mut());
    let mut response = infer(&app, Target::default(), face, request).await;
    if is_triton {
        to_triton(response.headers_mut());
    }
    response
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE);
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

fn is_csv(headers: &HeaderMap) -> bool {
    let essence = content_type(headers).split(';').next();
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/csv"))
}

/// Puts the length of the JSON where every other client puts it; tells whether there was one.
fn from_triton(headers: &mut HeaderMap) -> bool {
    let length = content_type(headers).strip_prefix(TRITON_LENGTH);
    let length = length.and_then(|length| HeaderValue::from_str(length).ok());
    let is_triton = length.is_some();
    if let Some(length) = length {
        headers.insert(JSON_LENGTH, length);
    }
    is_triton
}

/// The other way round, for an answer that has raw tensors.
fn to_triton(headers: &mut HeaderMap) {
    let length = headers.remove(JSON_LENGTH);
    let kind = length.and_then(|length| Some(format!("{TRITON_LENGTH}{}", length.to_str().ok()?)));
    if let Some(kind) = kind.and_then(|kind| HeaderValue::from_str(&kind).ok()) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
}
