//! What every exchange leaves behind: one line in the log, and the headers that complete its answer.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request};
use tracing::Level;

use super::trace::{RequestIds, TRACEPARENT, TraceParent, request_id};
use crate::serving::deployment::{Deployment, Facts};
use crate::serving::lane::Timing;
use crate::telemetry::logging::milliseconds;

/// What a face tells about an inference. It is kept until the exchange ends, and must not keep the deployment: a model
/// is unloaded when nobody holds it.
#[derive(Clone)]
pub struct Inference {
    pub facts: Arc<Facts>,
    pub rows: usize,
    pub timing: Timing,
}

impl Inference {
    /// What is known when it begins.
    pub fn on(deployment: &Deployment) -> Inference {
        Inference {
            facts: deployment.facts.clone(),
            rows: 0,
            timing: Timing::default(),
        }
    }
}

/// How an exchange ended.
pub struct End<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The gRPC code, where that is spoken.
    pub code: Option<&'static str>,
    pub level: Level,
    pub total: Duration,
    pub inference: Option<&'a Inference>,
    /// What was wrong, if anything.
    pub reason: Option<&'a str>,
}

/// The field's number for a client that went away before its answer.
pub const CLIENT_GONE: u16 = 499;

/// As much of a path as a log line shows.
const MOST_PATH_CHARS: usize = 256;

static SPAN_IDS: LazyLock<RequestIds> = LazyLock::new(RequestIds::default);

/// What the access line says about the request.
pub struct AccessLine {
    pub request_id: String,
    method: Method,
    path: String,
    trace: Option<TraceParent>,
}

impl AccessLine {
    /// The line of this request.
    pub fn of(request: &Request<Body>) -> AccessLine {
        AccessLine {
            request_id: request_id(request.headers()).to_owned(),
            method: request.method().clone(),
            path: request.uri().path().chars().take(MOST_PATH_CHARS).collect(),
            trace: TraceParent::of(request.headers()),
        }
    }

    /// Adds what every answer carries.
    pub fn complete(&self, headers: &mut HeaderMap, timing: Option<Timing>, total: Duration) {
        if let Ok(value) = HeaderValue::from_str(&server_timing(timing, total)) {
            headers.insert("server-timing", value);
        }
        let trace = self.trace.as_ref();
        if let Some(value) = trace.and_then(|trace| trace.continued(&SPAN_IDS)) {
            headers.insert(TRACEPARENT, value);
        }
    }

    /// One line an exchange.
    pub fn write(&self, end: &End<'_>) {
        let AccessLine {
            request_id,
            method,
            path,
            trace,
        } = self;
        let End {
            status,
            code,
            level,
            total,
            inference,
            reason,
        } = end;
        let trace_id = trace.as_ref().map(TraceParent::trace_id);
        let total_ms = milliseconds(*total);
        let model = inference.map(|inference| inference.facts.model.as_str());
        let version = inference.map(|inference| inference.facts.version.as_str());
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
                    code,
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
        match *level {
            Level::ERROR => line!(error),
            Level::DEBUG => line!(debug),
            _ => line!(info),
        }
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
