//! Where every exchange ends: it is counted, logged in one line, and its answer is completed.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::App;
use super::compression::Accepted;
use super::error::{self, Failure};
use super::trace::{RequestIds, TraceParent, request_id};
use crate::error::Error;
use crate::serving::deployment::Deployment;
use crate::serving::lane::Timing;
use crate::shutdown::Phase;
use crate::telemetry::logging::milliseconds;
use crate::telemetry::metrics::HttpRequest;

/// What a face tells about an inference; it travels in the response's extensions.
#[derive(Clone)]
pub struct Inference {
    pub deployment: Arc<Deployment>,
    pub rows: usize,
    pub timing: Timing,
}

static SPAN_IDS: LazyLock<RequestIds> = LazyLock::new(RequestIds::default);

/// Serves one request and completes its answer.
pub async fn exchange(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let exchange = Exchange::begin(&app, &request);
    let accepted = Accepted::of(request.headers());
    let response = tokio::select! {
        response = next.run(request) => response,
        // The drain is over: what is left gets an answer rather than a broken connection.
        () = app.shutdown.reached(Phase::Ending) => {
            error::response(&Error::unavailable("the server is shutting down").with_retry_after(Duration::from_secs(1)))
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
    counted: Option<HttpRequest>,
}

/// What the access line says about the request.
struct AccessLine {
    request_id: String,
    method: Method,
    path: String,
    trace: Option<TraceParent>,
}

impl Exchange {
    fn begin(app: &App, request: &Request) -> Exchange {
        let route = request
            .extensions()
            .get::<MatchedPath>()
            .map_or("unmatched", MatchedPath::as_str);
        let line = AccessLine {
            request_id: request_id(request.headers()).to_owned(),
            method: request.method().clone(),
            path: request.uri().path().chars().take(MOST_PATH_CHARS).collect(),
            trace: TraceParent::of(request.headers()),
        };
        let counted = app
            .metrics
            .http_request(route, method_label(request.method()));
        Exchange {
            line,
            counted: Some(counted),
        }
    }

    /// Adds what every answer carries.
    fn complete(&self, app: &App, response: &mut Response) {
        let timing = response
            .extensions()
            .get::<Inference>()
            .map(|inference| inference.timing);
        let total = self
            .counted
            .as_ref()
            .map(HttpRequest::elapsed)
            .unwrap_or_default();
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&server_timing(timing, total)) {
            headers.insert("server-timing", value);
        }
        if let Some(value) = self
            .line
            .trace
            .as_ref()
            .and_then(|trace| trace.continued(&SPAN_IDS))
        {
            headers.insert("traceparent", value);
        }
        if app.shutdown.is_draining() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    fn end(mut self, response: &Response) {
        let Some(counted) = self.counted.take() else {
            return;
        };
        let status = response.status();
        let failure = response
            .extensions()
            .get::<Failure>()
            .map(|Failure(reason)| reason.as_str());
        self.line.write(
            status.as_u16(),
            counted.elapsed(),
            response.extensions().get::<Inference>(),
            failure,
        );
        counted.finish(status.as_u16());
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(counted) = self.counted.take() {
            self.line.write(
                CLIENT_GONE,
                counted.elapsed(),
                None,
                Some("the client went away"),
            );
        }
    }
}

/// As much of a path as a log line shows.
const MOST_PATH_CHARS: usize = 256;

/// The field's number for a client that went away before its answer.
const CLIENT_GONE: u16 = 499;

impl AccessLine {
    /// One line an exchange; its level follows the status.
    fn write(
        &self,
        status: u16,
        total: Duration,
        inference: Option<&Inference>,
        reason: Option<&str>,
    ) {
        let AccessLine {
            request_id,
            method,
            path,
            trace,
        } = self;
        let trace_id = trace.as_ref().map(TraceParent::trace_id);
        let total_ms = milliseconds(total);
        let model = inference.map(|inference| inference.deployment.facts.model.as_str());
        let version = inference.map(|inference| inference.deployment.facts.version.as_str());
        let rows = inference.map(|inference| inference.rows);
        let queue_ms = inference.map(|inference| milliseconds(inference.timing.queue));
        let compute_ms = inference.map(|inference| milliseconds(inference.timing.compute));
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    target: "onnxd::access",
                    request_id,
                    trace_id,
                    method = method.as_str(),
                    path,
                    status,
                    total_ms,
                    model,
                    version,
                    rows,
                    queue_ms,
                    compute_ms,
                    reason,
                    "request"
                )
            };
        }
        match StatusCode::from_u16(status) {
            Ok(status) if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE => {
                line!(error)
            }
            _ if path.starts_with("/health")
                || path == "/livez"
                || path == "/readyz"
                || path == "/metrics" =>
            {
                line!(debug)
            }
            _ => line!(info),
        }
    }
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

/// The `Server-Timing` header: phases in milliseconds, as the W3C specification has it.
fn server_timing(timing: Option<Timing>, total: Duration) -> String {
    let mut header = String::with_capacity(64);
    if let Some(Timing { queue, compute }) = timing {
        push_phase(&mut header, "queue;dur=", queue);
        push_phase(&mut header, ", compute;dur=", compute);
        header.push_str(", ");
    }
    push_phase(&mut header, "total;dur=", total);
    header
}

/// Writes whole microseconds as milliseconds, which is quicker than a float.
fn push_phase(header: &mut String, name: &str, duration: Duration) {
    let micros = duration.as_micros() as u64;
    header.push_str(name);
    header.push_str(itoa::Buffer::new().format(micros / 1000));
    let fraction = micros % 1000;
    header.push('.');
    header.extend(
        [fraction / 100, fraction / 10 % 10, fraction % 10]
            .map(|digit| char::from(b'0' + digit as u8)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_told_in_milliseconds() {
        let timing = Timing {
            queue: Duration::from_micros(7),
            compute: Duration::from_micros(12_340),
        };
        let header = server_timing(Some(timing), Duration::from_micros(1_000_050));
        assert_eq!(
            header,
            "queue;dur=0.007, compute;dur=12.340, total;dur=1000.050"
        );
        assert_eq!(server_timing(None, Duration::ZERO), "total;dur=0.000");
    }
}
