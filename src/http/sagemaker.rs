//! Amazon SageMaker's `/invocations`; its `/ping` is `/health/ready`.
//!
//! What it adds to `/predict` are two media types, and each is only another spelling: Triton's for the binary tensor
//! extension, since SageMaker passes no headers on, and CSV for rows of numbers.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use super::binary::JSON_LENGTH;
use super::collect::collect;
use super::infer::{Face, infer};
use super::{App, error};
use crate::error::{Error, Result};
use crate::serving::registry::Target;

/// Triton's spelling of the binary extension's header.
const TRITON_BINARY: &str = "application/vnd.sagemaker-triton.binary+json;json-header-size=";

/// `POST /invocations`
pub async fn invoke(State(app): State<Arc<App>>, request: Request) -> Response {
    let mut request = match as_predict(&app, request).await {
        Ok(request) => request,
        Err(error) => return error::response(&error),
    };
    let is_triton = from_triton(request.headers_mut());
    let mut response = infer(&app, Target::default(), Face::Predict, request).await;
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

/// Puts the length of the JSON where every other client puts it; tells whether there was one.
fn from_triton(headers: &mut HeaderMap) -> bool {
    let length = content_type(headers).strip_prefix(TRITON_BINARY);
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
    let kind = length.and_then(|length| Some(format!("{TRITON_BINARY}{}", length.to_str().ok()?)));
    if let Some(kind) = kind.and_then(|kind| HeaderValue::from_str(&kind).ok()) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
}

/// The request with its body as `/predict` takes it.
async fn as_predict(app: &App, request: Request) -> Result<Request> {
    let kind = content_type(request.headers());
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("text/csv") {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let body = collect(body, 0, app.limits.body_bytes).await?;
    let text = std::str::from_utf8(&body).map_err(|_| Error::invalid("the CSV is not UTF-8"))?;
    Ok(Request::from_parts(parts, Body::from(rows(text)?)))
}

/// Lines of numbers, as SageMaker's own serializer writes them, as the rows style.
fn rows(csv: &str) -> Result<String> {
    let mut json = String::with_capacity(2 * csv.len() + 32);
    json.push_str("{\"instances\":[");
    for (index, line) in csv.trim_end().lines().enumerate() {
        json.push_str(if index > 0 { ",[" } else { "[" });
        for (column, cell) in line.split(',').enumerate() {
            if column > 0 {
                json.push(',');
            }
            json.push_str(&number(cell.trim()).ok_or_else(|| unreadable(index, column, cell))?);
        }
        json.push(']');
    }
    json.push_str("]}");
    Ok(json)
}

/// A number as JSON has it: CSV is also written with `.5`, `1.` or `+1`.
fn number(cell: &str) -> Option<String> {
    match cell.parse::<f64>().ok()? {
        _ if serde_json::from_str::<serde_json::Number>(cell).is_ok() => Some(cell.to_owned()),
        value if value.is_finite() => Some(format!("{value:?}")),
        value if value.is_nan() => Some("NaN".to_owned()),
        value if cell.trim_start_matches(['+', '-']).starts_with(['i', 'I']) => {
            Some(if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned())
        }
        // Digits that are too large: the reader of JSON says so.
        _ => Some(cell.to_owned()),
    }
}

fn unreadable(row: usize, column: usize, cell: &str) -> Error {
    Error::invalid(format!(
        "text/csv: expected numbers separated by commas and no header, got '{cell}' in row {row}, column {column}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(csv: &str, json: &str) {
        assert_eq!(rows(csv).as_deref().ok(), Some(json), "{csv}");
    }

    #[test]
    fn lines_become_rows() {
        check(
            "1,2.50,-3e4\n4,5,6\n",
            r#"{"instances":[[1,2.50,-3e4],[4,5,6]]}"#,
        );
        check("1, 2\r\n3 ,4", r#"{"instances":[[1,2],[3,4]]}"#);
        check("7", r#"{"instances":[[7]]}"#);
        check("", r#"{"instances":[]}"#);
    }

    #[test]
    fn numbers_are_read_as_other_tools_write_them() {
        check(".5,1.,+1,007", r#"{"instances":[[0.5,1.0,1.0,7.0]]}"#);
        check(
            "nan,inf,-Infinity",
            r#"{"instances":[[NaN,Infinity,-Infinity]]}"#,
        );
        check("9007199254740993", r#"{"instances":[[9007199254740993]]}"#);
    }

    #[test]
    fn what_is_no_number_is_told() {
        for csv in ["1,a", "1,", "1,\"2\"", "0x10,0"] {
            assert!(rows(csv).is_err(), "{csv}");
        }
        let error = rows("1,2\nsepal,3").expect_err("a word");
        assert_eq!(
            error.public_message(),
            "text/csv: expected numbers separated by commas and no header, got 'sepal' in row 1, column 0"
        );
    }
}
