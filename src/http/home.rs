//! The plain page at `/`: what runs here and where to look.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Html;

use super::App;
use crate::service::types::ModelStatus;
use crate::service::{NAME, VERSION};

const LINKS: [(&str, &str); 4] = [
    ("/health", "health of the server and its models"),
    ("/metrics", "Prometheus metrics"),
    ("/v2", "Open Inference Protocol: the server"),
    ("/v2/models", "Open Inference Protocol: the models"),
];

/// `GET /`
pub async fn page(State(app): State<Arc<App>>) -> Html<String> {
    let summary = app.service.summary();
    let state = summary.unready_reason.map_or_else(
        || "ready".to_owned(),
        |reason| format!("not ready: {reason}"),
    );
    let links: String = LINKS
        .iter()
        .map(|(path, text)| item(path, path, text))
        .collect();
    let models: String = summary.models.iter().map(model_item).collect();
    Html(format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{NAME}</title>\
         <style>body{{font:16px/1.6 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}}</style></head>\
         <body><h1>{NAME} {VERSION}</h1><p>This server is {}.</p><h2>Models</h2><ul>{models}</ul>\
         <p>Send predictions with <code>POST /predict/{{model}}</code>.</p><h2>Links</h2><ul>{links}</ul></body></html>",
        escape(&state)
    ))
}

fn model_item(status: &ModelStatus) -> String {
    let name = &status.name;
    let version = status
        .version
        .as_deref()
        .map(|version| format!(" version {version}"))
        .unwrap_or_default();
    let reason = status
        .reason
        .as_deref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    item(
        &format!("/v2/models/{name}"),
        &format!("{name}{version}"),
        &format!("{}{reason}", status.state),
    )
}

fn item(link: &str, name: &str, text: &str) -> String {
    format!(
        "<li><a href=\"{}\">{}</a> – {}</li>",
        escape(link),
        escape(name),
        escape(text)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
