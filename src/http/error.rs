//! Errors as HTTP answers: the one table of statuses, and one JSON body for all.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::App;
use super::route::methods_at;
use crate::error::{Error, ErrorKind, Result};

/// What the access log says about a failed request; it travels in the response's extensions.
#[derive(Debug, Clone)]
pub struct Failure(pub String);

/// The status of each kind of error.
pub fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::QueueFull => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        ErrorKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer to a request that failed.
pub fn response(error: &Error) -> Response {
    let mut response = json_error(status(error.kind()), error.public_message());
    if let Some(after) = error.retry_after() {
        let seconds = HeaderValue::from(after.as_secs_f64().ceil() as u64);
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    if error.kind() == ErrorKind::RequestTimeout {
        // What comes yet is the rest of the request.
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response.extensions_mut().insert(Failure(error.chain()));
    response
}

/// The answer with this small JSON body, or to the error in its place.
pub fn answer(result: Result<Value>) -> Response {
    match result {
        Ok(body) => json_response(StatusCode::OK, &body),
        Err(error) => response(&error),
    }
}

/// An answer with this status and `{"error": message}`.
pub fn json_error(status: StatusCode, message: &str) -> Response {
    json_response(status, &json!({ "error": message }))
}

/// An answer with a small JSON body.
pub fn json_response(status: StatusCode, body: &Value) -> Response {
    json_bytes(status, body.to_string().into_bytes())
}

/// An answer with a JSON body that is already written.
pub fn json_bytes(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// The answer to a path that no route matches.
pub async fn unknown_path(State(app): State<Arc<App>>, uri: Uri) -> Response {
    let has_docs = app.routes.iter().any(|route| route.covers("GET", "/docs"));
    let hint = if has_docs {
        "; /docs shows the routes"
    } else {
        ""
    };
    let message = format!("unknown path '{}'{hint}", uri.path());
    response(&Error::not_found(message))
}

/// The answer to a method that the path does not have.
pub async fn wrong_method(State(app): State<Arc<App>>, method: Method, uri: Uri) -> Response {
    not_allowed(&app, &method, &uri)
}

/// The same, for a handler that finds out itself. It tells the methods that the path has.
pub fn not_allowed(app: &App, method: &Method, uri: &Uri) -> Response {
    let path = uri.path();
    let message = format!("method {method} is not allowed on '{path}'; see the Allow header");
    // The bound on messages comes with the type; the status is the protocol's own.
    let mut response = response(&Error::invalid(message));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    if let Ok(methods) = HeaderValue::from_str(&methods_at(&app.routes, path)) {
        response.headers_mut().insert(header::ALLOW, methods);
    }
    response
}

/// Gives every error the JSON body that clients rely on: the layers of tower-http answer in plain text.
pub fn as_json(response: Response, body_limit: usize) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind == "application/json");
    if !is_error || is_json {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let (body_parts, body) = json_error(status, &message(status, body_limit)).into_parts();
    parts.headers.extend(body_parts.headers);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body)
}

fn message(status: StatusCode, body_limit: usize) -> String {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => {
            format!("the body is larger than the limit of {body_limit} bytes")
        }
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            "unknown Content-Encoding; valid ones are gzip, deflate, zstd and identity".to_owned()
        }
        StatusCode::GATEWAY_TIMEOUT => "the request took longer than the server allows".to_owned(),
        StatusCode::BAD_REQUEST => "the request's path is not valid".to_owned(),
        status => status
            .canonical_reason()
            .unwrap_or("the request failed")
            .to_lowercase(),
    }
}
