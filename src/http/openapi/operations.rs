//! What OpenAPI says of one route: its parameters, its body, and everything that it may answer.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::http::route::{Content, Route};

/// The errors that a route may answer with: their names in the document, and when they come.
const ERRORS: [(StatusCode, &str, &str); 11] = [
    (
        StatusCode::BAD_REQUEST,
        "BadRequest",
        "Malformed body, wrong shape, name, data type or parameter",
    ),
    (
        StatusCode::FORBIDDEN,
        "Forbidden",
        "The configuration does not allow it here",
    ),
    (
        StatusCode::NOT_FOUND,
        "NotFound",
        "Unknown model or version",
    ),
    (
        StatusCode::METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "The path has other methods; see Allow",
    ),
    (
        StatusCode::PAYLOAD_TOO_LARGE,
        "TooLarge",
        "Body (also decompressed), elements or depth over the limit, or more rows than the queue can ever hold",
    ),
    (
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UnknownEncoding",
        "Unknown Content-Encoding",
    ),
    (
        StatusCode::TOO_MANY_REQUESTS,
        "QueueFull",
        "The model's queue is full; see Retry-After",
    ),
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "Failed",
        "The model failed while running; the log has the cause under the request's id",
    ),
    (
        StatusCode::NOT_IMPLEMENTED,
        "NotImplemented",
        "No engine here can run the model, or there is no such thing to do with it",
    ),
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "Unavailable",
        "The model is known and not ready, or the server is shutting down; see Retry-After",
    ),
    (
        StatusCode::GATEWAY_TIMEOUT,
        "TooLate",
        "The deadline passed",
    ),
];

/// The operation of a row of the route table.
pub fn of(route: &Route) -> Value {
    let Route {
        method, path, doc, ..
    } = route;
    let words = path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let name = words.fold(method.to_lowercase(), |name, word| format!("{name}_{word}"));
    let parameters: Vec<Value> = path_parameters(path)
        .chain(header_parameters(doc.takes))
        .map(|name| reference("parameters", name))
        .collect();
    let mut operation = json!({
        "operationId": name,
        "tags": [doc.tag.words().0],
        "summary": doc.summary,
        "parameters": parameters,
        "responses": responses(route),
    });
    if doc.takes != Content::Nothing {
        operation["requestBody"] =
            json!({ "required": !doc.takes.is_optional(), "content": content(doc.takes) });
    }
    operation
}

/// What the route answers, by status.
pub fn responses(route: &Route) -> Value {
    let mut responses = Map::new();
    responses.insert("200".into(), success(route.doc.answers));
    for (status, name, _) in ERRORS
        .iter()
        .filter(|(status, ..)| may_answer(route, *status))
    {
        responses.insert(status.as_str().into(), reference("responses", name));
    }
    if matches!(route.doc.answers, Content::Summary | Content::Ready) {
        responses.insert("503".into(), described("Not ready", route.doc.answers));
    }
    Value::Object(responses)
}

fn success(answers: Content) -> Value {
    described("Done", answers)
}

fn described(description: &str, content_of: Content) -> Value {
    json!({ "description": description, "headers": header_references(&[]), "content": content(content_of) })
}

/// Whether a request that fits the document may be answered so.
fn may_answer(route: &Route, status: StatusCode) -> bool {
    let doc = route.doc;
    let takes_body = doc.takes != Content::Nothing;
    let runs = doc.answers.is_inference();
    let controls = doc.takes == Content::ControlRequest;
    let names_model = route.path.contains("{model}");
    match status {
        StatusCode::BAD_REQUEST => takes_body || names_model,
        StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => names_model || runs,
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE => takes_body,
        StatusCode::FORBIDDEN => controls,
        StatusCode::TOO_MANY_REQUESTS => runs || controls,
        StatusCode::INTERNAL_SERVER_ERROR | StatusCode::GATEWAY_TIMEOUT => runs || takes_body,
        StatusCode::SERVICE_UNAVAILABLE => true,
        _ => false,
    }
}

/// The body by media type.
fn content(content: Content) -> Value {
    let text = json!({ "schema": { "type": "string" } });
    let raw = json!({});
    let json = json!({ "schema": reference("schemas", &format!("{content:?}")) });
    match content {
        Content::Nothing => json!({}),
        Content::Page => json!({ "text/html": text }),
        Content::Home => json!({ "text/html": text, "application/json": json }),
        Content::Style => json!({ "text/css": text }),
        Content::Script => json!({ "text/javascript": text }),
        Content::Metrics => json!({ "text/plain": text }),
        Content::InferRequest | Content::InferAnswer | Content::PredictAnswer => {
            json!({ "application/json": json, "application/octet-stream": raw })
        }
        Content::InvocationRequest => {
            json!({ "application/json": json, "text/csv": text, "application/octet-stream": raw })
        }
        _ => json!({ "application/json": json }),
    }
}

fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split(['{', '}']).skip(1).step_by(2)
}

fn header_parameters<'a>(takes: Content) -> impl Iterator<Item = &'a str> {
    let deadline = takes.is_inference().then_some("timeout");
    let binary = matches!(takes, Content::InferRequest).then_some("header_length");
    deadline.into_iter().chain(binary)
}

/// The parameters that operations refer to.
pub fn parameters() -> Value {
    let in_path = |name: &str, description: &str| json!({ "name": name, "in": "path", "required": true, "description": description, "schema": { "type": "string", "minLength": 1 } });
    json!({
        "model": in_path("model", "A model's name"),
        "version": in_path("version", "A version, such as `2` or `v2`"),
        "label": in_path("label", "What a version is called beside its number"),
        "timeout": {
            "name": "x-request-timeout-ms",
            "in": "header",
            "description": "Milliseconds that the request may take. The server's own limit caps it.",
            "schema": { "type": "integer", "minimum": 1, "maximum": u64::MAX },
        },
        "header_length": {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "How many bytes at the head of the body are JSON, where raw tensors follow. 0: the body is the only input.",
            "schema": { "type": "integer", "minimum": 0 },
        },
    })
}

/// The headers that answers refer to.
pub fn headers() -> Value {
    let text =
        |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    json!({
        "x-request-id": text("What the log calls this request: the client's own id, or one of ours"),
        "server-timing": text("How long the request waited and ran, in milliseconds"),
        "Retry-After": { "description": "When to try again, in seconds", "schema": { "type": "integer", "minimum": 0 } },
        "Allow": text("The methods that the path has"),
    })
}

fn header_references(further: &[&str]) -> Value {
    let names = ["x-request-id", "server-timing"].iter().chain(further);
    Value::Object(
        names
            .map(|name| ((*name).to_owned(), reference("headers", name)))
            .collect(),
    )
}

/// The answers to what fails, which operations refer to.
pub fn error_responses() -> Value {
    let responses = ERRORS.iter().map(|(status, name, description)| {
        let further: &[&str] = match *status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => &["Retry-After"],
            StatusCode::METHOD_NOT_ALLOWED => &["Allow"],
            _ => &[],
        };
        let response = json!({
            "description": description,
            "headers": header_references(further),
            "content": { "application/json": { "schema": reference("schemas", "Error") } },
        });
        ((*name).to_owned(), response)
    });
    Value::Object(responses.collect())
}

/// A reference to a component.
pub fn reference(kind: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{name}") })
}
