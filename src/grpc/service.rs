//! The methods of the Open Inference Protocol, each of which only translates.

use std::collections::HashMap;
use std::sync::Arc;

use tonic::{Request, Response, Status, Streaming};

use super::App;
use super::infer::{Context, infer, target};
use super::inference::grpc_inference_service_server::GrpcInferenceService;
use super::inference::{
    ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse,
    ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse,
    ModelRepositoryParameter, ModelStatisticsRequest, ModelStatisticsResponse,
    RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse,
    ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse,
};
use super::status::status;
use super::stream::{Answers, Origin};
use crate::error::{Error, Result as Outcome};
use crate::exchange::trace::REQUEST_ID;
use crate::service::repository::{Control, Door};
use crate::service::{NAME, VERSION};

/// The service's methods.
pub struct Face {
    pub app: Arc<App>,
}

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(outcome: Outcome<T>) -> Answer<T> {
    outcome.map(Response::new).map_err(status)
}

#[tonic::async_trait]
impl GrpcInferenceService for Face {
    type ModelStreamInferStream = Answers;

    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Answer<ServerLiveResponse> {
        answer(Ok(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Answer<ServerReadyResponse> {
        let ready = self.app.service.unready_reason().is_none();
        answer(Ok(ServerReadyResponse { ready }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Answer<ModelReadyResponse> {
        let ModelReadyRequest { name, version } = request.into_inner();
        let ready = self
            .app
            .service
            .deployment(&target(&name, &version))
            .is_ok();
        answer(Ok(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Answer<ServerMetadataResponse> {
        let extensions = self.app.service.extensions().iter();
        answer(Ok(ServerMetadataResponse {
            name: NAME.to_owned(),
            version: VERSION.to_owned(),
            extensions: extensions.map(|&name| name.to_owned()).collect(),
        }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Answer<ModelMetadataResponse> {
        let ModelMetadataRequest { name, version } = request.into_inner();
        let metadata = self.app.service.metadata(&target(&name, &version));
        answer(metadata.map(Into::into))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Answer<ModelInferResponse> {
        let context = Context::of(request.extensions(), &self.app);
        answer(infer(&self.app, request.into_inner(), &context).await)
    }

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Answer<Answers> {
        let request_id = request.metadata().get(REQUEST_ID);
        let request_id = request_id.and_then(|id| id.to_str().ok());
        let origin = Origin {
            context: Context::of(request.extensions(), &self.app),
            request_id: request_id.unwrap_or_default().to_owned(),
        };
        let answers = Answers::new(self.app.clone(), request.into_inner(), origin);
        answer(Ok(answers))
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Answer<ModelConfigResponse> {
        let ModelConfigRequest { name, version } = request.into_inner();
        let config = self.app.service.model_config(&target(&name, &version));
        answer(config.map(|config| ModelConfigResponse {
            config: Some(config.into()),
        }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Answer<ModelStatisticsResponse> {
        let ModelStatisticsRequest { name, version } = request.into_inner();
        let target = Some(target(&name, &version)).filter(|_| !name.is_empty());
        let statistics = self.app.service.statistics(target.as_ref());
        answer(statistics.map(|statistics| ModelStatisticsResponse {
            model_stats: statistics.into_iter().map(Into::into).collect(),
        }))
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Answer<RepositoryIndexResponse> {
        let RepositoryIndexRequest {
            repository_name,
            ready,
        } = request.into_inner();
        answer(check_repository(&repository_name).map(|()| {
            let index = self.app.service.index(ready);
            RepositoryIndexResponse {
                models: index.into_iter().map(Into::into).collect(),
            }
        }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Answer<RepositoryModelLoadResponse> {
        let RepositoryModelLoadRequest {
            repository_name,
            model_name,
            parameters,
        } = request.into_inner();
        check_repository(&repository_name).map_err(status)?;
        let control = control(&model_name, &parameters);
        let loaded = self.app.service.load(control).await;
        answer(loaded.map(|()| RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Answer<RepositoryModelUnloadResponse> {
        let RepositoryModelUnloadRequest {
            repository_name,
            model_name,
            parameters,
        } = request.into_inner();
        check_repository(&repository_name).map_err(status)?;
        let control = control(&model_name, &parameters);
        let unloaded = self.app.service.unload(control).await;
        answer(unloaded.map(|()| RepositoryModelUnloadResponse {}))
    }
}

fn check_repository(name: &str) -> Outcome<()> {
    match name {
        "" => Ok(()),
        _ => Err(Error::invalid(format!(
            "unknown repository '{name}'; there is one, and repository_name is empty for it"
        ))),
    }
}

fn control<'a>(
    model: &'a str,
    parameters: &'a HashMap<String, ModelRepositoryParameter>,
) -> Control<'a> {
    Control {
        model,
        parameters: parameters.keys().map(String::as_str).collect(),
        door: Door::Public,
    }
}
