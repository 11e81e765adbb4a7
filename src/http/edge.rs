//! Where every exchange ends: it is counted, logged in one line, and its answer is completed.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Level;

use super::App;
use super::compression::Accepted;
use super::error::{self, Failure};
use crate::error::Error;
use crate::exchange::access::{AccessLine, CLIENT_GONE, End, Inference};
use crate::shutdown::Phase;
use crate::telemetry::metrics::HttpRequest;

/// Serves one request and completes its answer. What a face tells about an inference is in the response's extensions.
pub async fn exchange(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let exchange = Exchange::begin(&app, &request);
    let accepted = Accepted::of(&request);
    let response = tokio::select! {
        response = next.run(request) => response,
        // The drain is over: what is left gets an answer rather than a broken connection.
        () = app.shutdown.reached(Phase::Ending) => {
            error::response(&Error::shutting_down())
        }
    };
    let mut response = error::as_json(response, app.limits.body_bytes);
    exchange.complete(&app, &mut response);
    exchange.end(&response);
    accepted.compress(response).await
}

/// One exchange, from the request's head to the answer's. Dropped before its end, it is logged as canceled.
struct Exchange {
    line: AccessLine,
    probe: bool,
    counted: Option<HttpRequest>,
}

impl Exchange {
    fn begin(app: &App, request: &Request) -> Exchange {
        let route = request
            .extensions()
            .get::<MatchedPath>()
            .map_or("unmatched", MatchedPath::as_str);
        let counted = app
            .metrics
            .http_request(route, method_label(request.method()));
        Exchange {
            line: AccessLine::of(request),
            probe: is_probe(request.uri().path()),
            counted: Some(counted),
        }
    }

    /// Adds what every answer carries.
    fn complete(&self, app: &App, response: &mut Response) {
        let inference = response.extensions().get::<Inference>();
        let timing = inference.map(|inference| inference.timing);
        let total = self
            .counted
            .as_ref()
            .map(HttpRequest::elapsed)
            .unwrap_or_default();
        let headers = response.headers_mut();
        self.line.complete(headers, timing, total);
        if app.shutdown.is_draining() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    fn end(mut self, response: &Response) {
        let Some(counted) = self.counted.take() else {
            return;
        };
        let status = response.status();
        let failure = response.extensions().get::<Failure>();
        self.line.write(&End {
            status: status.as_u16(),
            code: None,
            level: self.level(status),
            total: counted.elapsed(),
            inference: response.extensions().get::<Inference>(),
            reason: failure.map(|Failure(reason)| reason.as_str()),
        });
        counted.finish(status.as_u16());
    }

    /// Probes come every few seconds; what is the server's own fault is seen wherever it happens.
    fn level(&self, status: StatusCode) -> Level {
        match status {
            _ if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE => {
                Level::ERROR
            }
            _ => self.usual_level(),
        }
    }

    fn usual_level(&self) -> Level {
        match self.probe {
            true => Level::DEBUG,
            false => Level::INFO,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(counted) = self.counted.take() {
            self.line.write(&End {
                status: CLIENT_GONE,
                code: None,
                level: self.usual_level(),
                total: counted.elapsed(),
                inference: None,
                reason: Some("the client went away"),
            });
        }
    }
}

fn is_probe(path: &str) -> bool {
    path.starts_with("/health") || ["/livez", "/readyz", "/ping", "/metrics"].contains(&path)
}

/// Methods by name; whatever else a client writes is one label, so that it cannot mint series.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}
