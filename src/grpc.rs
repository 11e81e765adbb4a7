//! The gRPC face: the Open Inference Protocol's service, health and reflection, on a port of their own.

pub mod answer;
pub mod codec;
pub mod compression;
pub mod contents;
pub mod deadline;
pub mod edge;
pub mod health;
pub mod infer;
#[rustfmt::skip]
#[expect(clippy::allow_attributes, reason = "generated")]
pub mod inference;
pub mod layers;
pub mod methods;
pub mod read_outs;
pub mod service;
pub mod status;
pub mod stream;
pub mod timely;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tonic::codec::CompressionEncoding::{Deflate, Gzip, Zstd};
use tonic::service::Routes;

use self::health::HealthFace;
use self::inference::grpc_inference_service_server::{GrpcInferenceServiceServer, SERVICE_NAME};
use self::service::Face;
use crate::config::Limits;
use crate::error::{Error, Result};
use crate::in_flight::RequestBudget;
use crate::service::Service;
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;

/// Our messages and methods, for whoever asks what there is to call.
pub const DESCRIPTORS: &[u8] = include_bytes!("grpc/inference.fds");

/// The longest message of a method that carries no tensors.
const MOST_WORDS: usize = 256 << 10;

/// What the handlers share.
pub struct App {
    pub service: Service,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
    pub limits: Limits,
    pub in_flight: RequestBudget,
    pub request_timeout: Duration,
    /// In which a message must come whole.
    pub body_timeout: Duration,
}

/// What every service reads and writes.
macro_rules! compressed {
    ($service:expr) => {
        $service
            .accept_compressed(Gzip)
            .accept_compressed(Deflate)
            .accept_compressed(Zstd)
            .send_compressed(Gzip)
            .send_compressed(Deflate)
            .send_compressed(Zstd)
    };
}

/// Every service, behind the whole stack of layers.
pub fn router(app: App) -> Result<Router> {
    let app = Arc::new(app);
    let inference = |most_bytes: usize| {
        let service = GrpcInferenceServiceServer::new(Face { app: app.clone() });
        compressed!(service).max_decoding_message_size(most_bytes)
    };
    let health =
        tonic_health::pb::health_server::HealthServer::new(HealthFace { app: app.clone() })
            .max_decoding_message_size(MOST_WORDS);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let unreadable = |error| Error::internal("the descriptors are unreadable").with_source(error);
    let routes = Routes::new(inference(app.limits.body_bytes.min(MOST_WORDS)))
        .add_service(compressed!(health))
        .add_service(compressed!(reflection().build_v1().map_err(unreadable)?))
        .add_service(compressed!(
            reflection().build_v1alpha().map_err(unreadable)?
        ));
    let tensors = inference(app.limits.body_bytes);
    let routes = ["ModelInfer", "ModelStreamInfer"].into_iter().fold(
        routes.into_axum_router(),
        |routes, method| {
            let path = format!("/{SERVICE_NAME}/{method}");
            routes.route_service(&path, tensors.clone())
        },
    );
    Ok(layers::stack(routes, app))
}
