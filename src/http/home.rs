//! What is at `/`: a plain page that says what runs here and where to look, or for a program that it runs.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use super::{App, docs, error};
use crate::service::types::ModelStatus;
use crate::service::{NAME, VERSION};

const LINKS: [(&str, &str); 6] = [
    ("docs", "every route, with requests to try"),
    ("openapi.json", "the same for programs"),
    ("health", "health of the server and its models"),
    ("metrics", "Prometheus metrics"),
    ("v2", "Open Inference Protocol: the server"),
    ("v2/models", "Open Inference Protocol: the models"),
];

/// `GET /`
pub async fn home(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let accepted = headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
    let is_page = |accepted: &[u8]| accepted.windows(9).any(|part| part == b"text/html");
    let mut response = match accepted.is_none_or(is_page) {
        true => page(&app),
        // KServe's client asks so whether a server of version 1 is alive.
        false => error::json_response(
            StatusCode::OK,
            &json!({ "name": NAME, "version": VERSION, "status": "alive" }),
        ),
    };
    let vary = HeaderValue::from_static("accept");
    response.headers_mut().insert(header::VARY, vary);
    response
}

fn page(app: &App) -> Response {
    let summary = app.service.summary();
    let state = match &summary.unready_reason {
        None => "<span class=\"good\">ready</span>".to_owned(),
        Some(reason) => format!("<span class=\"bad\">not ready</span>: {}", escape(reason)),
    };
    let models: String = summary.models.iter().map(model).collect();
    let is_here = |(path, _): &&(&str, &str)| {
        let path = format!("/{path}");
        app.routes.iter().any(|route| route.covers("GET", &path))
    };
    let links: String = LINKS.iter().filter(is_here).map(link).collect();
    docs::html(
        include_str!("docs/home.html")
            .replace("{name}", NAME)
            .replace("{version}", VERSION)
            .replace("{links}", &links)
            .replace("{state}", &state)
            .replace("{models}", &models),
    )
}

fn model(status: &ModelStatus) -> String {
    let name = escape(&status.name);
    let version = status
        .version
        .as_deref()
        .map(|version| format!("version {}", escape(version)));
    let (class, reason) = match (status.state, &status.reason) {
        ("ready", _) => ("good", String::new()),
        (_, None) => ("muted", String::new()),
        (_, Some(reason)) => ("bad", format!("<p>{}</p>", escape(reason))),
    };
    format!(
        "<li class=\"card\"><div class=\"row\"><a href=\"docs#Model-{name}\"><strong>{name}</strong></a>\
         <span class=\"muted\">{}</span><span class=\"{class}\">{}</span></div>{reason}</li>",
        version.unwrap_or_default(),
        escape(status.state),
    )
}

fn link((path, text): &(&str, &str)) -> String {
    format!("<tr><th scope=\"row\"><a href=\"{path}\">/{path}</a></th><td>{text}</td></tr>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
