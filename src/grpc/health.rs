//! `grpc.health.v1`: the server as a whole under the empty name and the service's own, each model under its name.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::App;
use super::inference::grpc_inference_service_server::SERVICE_NAME;
use super::status::status;
use crate::error::{Error, ErrorKind};
use crate::serving::registry::Target;
use crate::shutdown::Phase;

/// How often the state is looked at for those who watch it.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Answers from the state of the moment.
pub struct HealthFace {
    pub app: Arc<App>,
}

#[tonic::async_trait]
impl Health for HealthFace {
    type WatchStream = ReceiverStream<Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let HealthCheckRequest { service } = request.into_inner();
        match serving(&self.app, &service) {
            ServingStatus::ServiceUnknown => Err(status(Error::not_found(format!(
                "unknown service '{service}'; expected '', '{SERVICE_NAME}' or a model's name"
            )))),
            serving => Ok(Response::new(response(serving))),
        }
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let HealthCheckRequest { service } = request.into_inner();
        let (changes, watched) = mpsc::channel(1);
        tokio::spawn(watch(self.app.clone(), service, changes));
        Ok(Response::new(ReceiverStream::new(watched)))
    }
}

type Changes = mpsc::Sender<Result<HealthCheckResponse, Status>>;

/// Tells the state and each change of it, until the client goes or the server closes.
async fn watch(app: Arc<App>, service: String, changes: Changes) {
    let mut told = None;
    loop {
        let now = serving(&app, &service);
        if told != Some(now) {
            if changes.send(Ok(response(now))).await.is_err() {
                return;
            }
            told = Some(now);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            () = app.shutdown.reached(Phase::Draining), if !app.shutdown.is_draining() => {}
            () = app.shutdown.reached(Phase::Closing) => {
                // Whoever does not read it sees the connection end.
                let _ = changes.try_send(Err(status(Error::shutting_down())));
                return;
            }
            () = changes.closed() => return,
        }
    }
}

fn serving(app: &App, service: &str) -> ServingStatus {
    let is_serving = match service {
        "" | SERVICE_NAME => app.service.unready_reason().is_none(),
        model => match app.service.deployment(&Target::model(model)) {
            Ok(_) => !app.shutdown.is_draining(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return ServingStatus::ServiceUnknown;
            }
            Err(_) => false,
        },
    };
    match is_serving {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    }
}

fn response(serving: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: serving.into(),
    }
}
