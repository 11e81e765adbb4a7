//! The HTTP faces: the route table, and nothing else.

pub mod compression;
pub mod connections;
pub mod edge;
pub mod error;
pub mod health;
pub mod home;
pub mod infer;
pub mod layers;
pub mod metrics;
pub mod paced;
pub mod trace;
pub mod v2;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::config::{Limits, ServerConfig};
use crate::service::Service;
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    pub service: Service,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
    pub limits: Limits,
}

/// Every route, behind the whole stack of layers.
pub fn router(app: App, config: &ServerConfig) -> Router {
    let app = Arc::new(app);
    let routes = Router::new()
        .route("/", get(home::page))
        .route("/predict", post(infer::predict_default))
        .route("/predict/{model}", post(infer::predict_model))
        .route("/predict/{model}/{version}", post(infer::predict_version))
        .route("/health", get(health::summary))
        .route("/health/ready", get(health::ready))
        .route("/health/live", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/livez", get(health::live))
        .route("/metrics", get(metrics::render))
        .route("/v2", get(v2::server))
        .route("/v2/health/live", get(v2::live))
        .route("/v2/health/ready", get(v2::ready))
        .route("/v2/models", get(v2::models))
        .route("/v2/models/{model}", get(v2::model))
        .route("/v2/models/{model}/ready", get(v2::model_ready))
        .route("/v2/models/{model}/infer", post(v2::infer_model))
        .route("/v2/models/{model}/versions/{version}", get(v2::version))
        .route(
            "/v2/models/{model}/versions/{version}/ready",
            get(v2::version_ready),
        )
        .route(
            "/v2/models/{model}/versions/{version}/infer",
            post(v2::infer_version),
        )
        .fallback(error::unknown_path)
        .method_not_allowed_fallback(error::wrong_method)
        .with_state(app.clone());
    layers::stack(routes, app, config)
}
