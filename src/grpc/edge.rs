//! Where every call ends: it is given its time, counted, logged in one line, and its answer is completed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tonic::{Code, Status};
use tracing::Level;

use super::answer::Answer;
use super::compression::{self, Compression};
use super::deadline::Deadline;
use super::methods::{Kind, Method};
use super::timely::Timely;
use super::{App, status};
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::DEADLINE_HEAD_START;
use crate::exchange::access::{AccessLine, End, Inference};
use crate::exchange::aside::all_aside;
use crate::shutdown::{Phase, Shutdown};
use crate::telemetry::metrics::GrpcRequest;

/// What a handler tells about the inference that it did; it travels in the request's extensions.
#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Option<Inference>>>);

impl Told {
    /// Takes the place of what was told before.
    pub fn set(&self, inference: Inference) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(inference);
    }

    fn get(&self) -> Option<Inference> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.clone()
    }
}

/// Serves one call and completes its answer.
pub async fn exchange(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let exchange = Exchange::begin(&app, &mut request);
    if !is_grpc(request.headers()) {
        let hint = "this port speaks gRPC; the log says at start which one speaks HTTP\n";
        let refused = (StatusCode::UNSUPPORTED_MEDIA_TYPE, hint).into_response();
        let response = exchange.completed(refused);
        exchange.end_otherwise(response.status(), hint.trim_end());
        return response;
    }
    let compression = compression::answer_as_asked(request.headers_mut());
    let mut ending = match ending(&app, exchange.method.kind, &mut request) {
        Ok(ending) => ending,
        Err(error) => {
            let status = status::status(error);
            let response = exchange.completed(status.clone().into_http());
            exchange.end(&status);
            return response;
        }
    };
    let held = app.in_flight.hold();
    request.extensions_mut().insert(held.clone());
    let request = request.map(|body| Body::new(Timely::new(body, &app)));
    let uri = request.uri().clone();
    let served = async {
        match compression {
            Compression::Off => next.run(request).await,
            Compression::On => all_aside(next.run(request)).await,
        }
    };
    let response = tokio::select! {
        response = served => response,
        status = &mut ending => status.into_http(),
    };
    let response = exchange.completed(named(response, uri.path()));
    if let Some(status) = status_alone(&response) {
        exchange.end(&status);
        return response;
    }
    response.map(|body| {
        Body::new(Answer {
            body,
            compression,
            ending,
            held,
            exchange: Some(exchange),
        })
    })
}

/// The status of an answer that is nothing else. Ours knows its cause; that of generated code, such as for a method
/// that there is not, stands in the head only.
fn status_alone(response: &Response) -> Option<Status> {
    let status = response.extensions().get::<Status>().cloned();
    status.or_else(|| Status::from_header_map(response.headers()))
}

/// Generated code says of a method that it does not know nothing but the code.
fn named(response: Response, path: &str) -> Response {
    match status_alone(&response) {
        Some(status) if status.code() == Code::Unimplemented && status.message().is_empty() => {
            let message = format!(
                "there is no method '{path}'; the services are inference.GRPCInferenceService, grpc.health.v1.Health and reflection, which tells their methods"
            );
            status::status(Error::unimplemented(message)).into_http()
        }
        _ => response,
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// What ends a call from outside, and with which status.
pub type Ending = Pin<Box<dyn Future<Output = Status> + Send>>;

fn ending(app: &App, kind: Kind, request: &mut Request) -> Result<Ending> {
    let now = Instant::now();
    let deadline = Deadline::of(request.headers(), now)?;
    request.extensions_mut().insert(deadline);
    let longest = match kind {
        Kind::Unary | Kind::Probe => Some(now + app.request_timeout),
        Kind::Stream => None,
    };
    let Deadline(asked) = deadline;
    let until = asked.into_iter().chain(longest).min();
    let until = until.and_then(|until| until.checked_add(DEADLINE_HEAD_START));
    Ok(Box::pin(ended(app.shutdown.clone(), until)))
}

async fn ended(shutdown: Shutdown, until: Option<Instant>) -> Status {
    let late = async {
        match until {
            Some(until) => tokio::time::sleep_until(until.into()).await,
            None => std::future::pending().await,
        }
    };
    let error = tokio::select! {
        () = late => Error::new(
            ErrorKind::DeadlineExceeded,
            "the call took longer than its deadline or the server allows",
        ),
        // The drain is over: what is left gets a status rather than a broken connection.
        () = shutdown.reached(Phase::Ending) => Error::shutting_down(),
    };
    status::status(error)
}

/// One call, from the request's head to the answer's trailers. Dropped before its end, it is logged as canceled.
pub struct Exchange {
    line: AccessLine,
    method: Method,
    told: Told,
    counted: Option<GrpcRequest>,
}

impl Exchange {
    fn begin(app: &App, request: &mut Request) -> Exchange {
        let method = Method::of(request.uri().path());
        let told = Told::default();
        request.extensions_mut().insert(told.clone());
        Exchange {
            line: AccessLine::of(request),
            method,
            told,
            counted: Some(app.metrics.grpc_request(method.name)),
        }
    }

    /// Adds what every answer carries.
    fn completed(&self, mut response: Response) -> Response {
        let timing = self.told.get().map(|inference| inference.timing);
        let total = self.elapsed();
        self.line.complete(response.headers_mut(), timing, total);
        response
    }

    /// Ends the call.
    pub fn end(mut self, status: &Status) {
        let code = status.code();
        let reason = (code != Code::Ok).then(|| status::reason(status));
        let level = self.level(status);
        self.write(StatusCode::OK, code, level, reason.as_deref());
    }

    /// Ends what is no call, with a status of HTTP.
    fn end_otherwise(mut self, http: StatusCode, reason: &str) {
        self.write(http, Code::Unknown, Level::INFO, Some(reason));
    }

    fn write(&mut self, http: StatusCode, code: Code, level: Level, reason: Option<&str>) {
        let Some(counted) = self.counted.take() else {
            return;
        };
        let code = status::name(code);
        self.line.write(&End {
            status: http.as_u16(),
            code: Some(code),
            level,
            total: counted.elapsed(),
            inference: self.told.get().as_ref(),
            reason,
        });
        counted.finish(code);
    }

    fn elapsed(&self) -> Duration {
        let counted = self.counted.as_ref();
        counted.map(GrpcRequest::elapsed).unwrap_or_default()
    }

    /// Probes come every few seconds; what is the server's own fault is seen wherever it happens.
    fn level(&self, status: &Status) -> Level {
        match status::cause(status).map(Error::kind) {
            Some(ErrorKind::Internal | ErrorKind::Unimplemented | ErrorKind::DeadlineExceeded) => {
                Level::ERROR
            }
            _ => self.usual_level(),
        }
    }

    fn usual_level(&self) -> Level {
        match self.method.kind {
            Kind::Probe => Level::DEBUG,
            Kind::Unary | Kind::Stream => Level::INFO,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.write(
            StatusCode::OK,
            Code::Cancelled,
            self.usual_level(),
            Some("the client went away"),
        );
    }
}
