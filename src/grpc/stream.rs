//! Many inferences over one stream: each has one answer, in the order of the requests, as clients of Triton expect it
//! of a model that is not decoupled. What is wrong with one request is in its answer, and the stream goes on.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Polling, Poll, ready};

use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tonic::{Status, Streaming};
use tracing::Instrument;

use super::App;
use super::infer::{Context, infer};
use super::inference::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use super::status::status;
use crate::error::{Error, ErrorKind};
use crate::in_flight::Held;
use crate::shutdown::Phase;

/// So many requests of one stream are worked on at once; the others wait unread.
const MOST_IN_FLIGHT: usize = 16;

/// The answers of one stream. Dropping it cancels what is in flight.
pub struct Answers {
    app: Arc<App>,
    context: Context,
    request_id: String,
    /// Until the client or the server has ended them.
    requests: Option<Streaming<ModelInferRequest>>,
    in_flight: VecDeque<InFlight>,
    /// What the stream ends with, once everything is answered.
    end: Option<Status>,
    closing: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// One request being worked on.
struct InFlight {
    task: JoinHandle<ModelStreamInferResponse>,
    _held: Arc<Held>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Answers {
    /// The answers to these requests.
    pub fn new(app: Arc<App>, requests: Streaming<ModelInferRequest>, origin: Origin) -> Answers {
        let shutdown = app.shutdown.clone();
        let Origin {
            context,
            request_id,
        } = origin;
        Answers {
            app,
            context,
            request_id,
            requests: Some(requests),
            in_flight: VecDeque::new(),
            end: None,
            closing: Box::pin(async move { shutdown.reached(Phase::Closing).await }),
        }
    }

    /// Takes in what the client has sent, as far as there is room for it.
    fn read(&mut self, cx: &mut Polling<'_>) {
        if self.requests.is_some() && self.closing.as_mut().poll(cx).is_ready() {
            self.requests = None;
            self.end = Some(status(Error::shutting_down()));
        }
        while self.in_flight.len() < MOST_IN_FLIGHT
            && let Some(requests) = &mut self.requests
            && let Poll::Ready(next) = Pin::new(requests).poll_next(cx)
        {
            match next {
                Some(Ok(request)) => self.begin(request),
                Some(Err(status)) => (self.requests, self.end) = (None, Some(status)),
                None => self.requests = None,
            }
        }
    }

    fn begin(&mut self, request: ModelInferRequest) {
        // Each request of a stream has its own part of the memory, until its answer is handed on to be written.
        let held = self.app.in_flight.hold();
        let (app, context) = (
            self.app.clone(),
            Context {
                held: held.clone(),
                ..self.context.clone()
            },
        );
        let request_id = self.request_id.clone();
        let answer = async move { answer(&app, request, &context, &request_id).await };
        let task = tokio::spawn(answer.in_current_span());
        self.in_flight.push_back(InFlight { task, _held: held });
    }
}

/// Where a stream comes from.
pub struct Origin {
    pub context: Context,
    pub request_id: String,
}

impl Stream for Answers {
    type Item = Result<ModelStreamInferResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Polling<'_>) -> Poll<Option<Self::Item>> {
        self.read(cx);
        if let Some(InFlight { task, .. }) = self.in_flight.front_mut() {
            let answer = ready!(Pin::new(task).poll(cx));
            self.in_flight.pop_front();
            return Poll::Ready(Some(Ok(answer.unwrap_or_else(|_| panicked()))));
        }
        match self.requests {
            Some(_) => Poll::Pending,
            None => Poll::Ready(self.end.take().map(Err)),
        }
    }
}

async fn answer(
    app: &App,
    request: ModelInferRequest,
    context: &Context,
    request_id: &str,
) -> ModelStreamInferResponse {
    // An answer that is an error says whose it is.
    let about = ModelInferResponse {
        model_name: request.model_name.clone(),
        model_version: request.model_version.clone(),
        id: request.id.clone(),
        ..ModelInferResponse::default()
    };
    match infer(app, request, context).await {
        Ok(response) => ModelStreamInferResponse {
            error_message: String::new(),
            infer_response: Some(response),
        },
        Err(error) => {
            // The stream itself may well end without an error.
            if error.kind() == ErrorKind::Internal {
                let model = about.model_name.as_str();
                let reason = error.chain();
                tracing::error!(request_id, model, reason, "a request of a stream failed");
            }
            ModelStreamInferResponse {
                error_message: error.public_message().to_owned(),
                infer_response: Some(about),
            }
        }
    }
}

/// The panic itself is logged by the process's panic hook.
fn panicked() -> ModelStreamInferResponse {
    let error = Error::internal("a handler panicked");
    ModelStreamInferResponse {
        error_message: error.public_message().to_owned(),
        infer_response: None,
    }
}
