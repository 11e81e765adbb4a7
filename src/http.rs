//! The HTTP faces: the route table, and nothing else.

pub mod connections;
pub mod edge;
pub mod error;
pub mod health;
pub mod home;
pub mod infer;
pub mod layers;
pub mod metrics;
pub mod route;
pub mod v2;

use std::sync::Arc;

use axum::Router;

use self::route::{Route, routes};
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

/// Every route, in the order in which they are documented.
pub const ROUTES: &[Route] = routes! {
    Public GET  "/"                                             home::page,                Server        Nothing        => Page           "What runs here, and where to look";

    Public POST "/predict"                                      infer::predict_default,    Predict       PredictRequest => PredictAnswer  "Predict with the default model";
    Public POST "/predict/{model}"                              infer::predict_model,      Predict       PredictRequest => PredictAnswer  "Predict with a model";
    Public POST "/predict/{model}/{version}"                    infer::predict_version,    Predict       PredictRequest => PredictAnswer  "Predict with a version of a model";

    Public GET  "/v2"                                           v2::server,                OpenInference Nothing        => ServerMetadata "The server and its protocol extensions";
    Public GET  "/v2/health/live"                               v2::live,                  OpenInference Nothing        => Live           "Whether the process answers";
    Public GET  "/v2/health/ready"                              v2::ready,                 OpenInference Nothing        => Ready          "Whether the server should be sent traffic";
    Public GET  "/v2/models"                                    v2::models,                OpenInference Nothing        => ModelNames     "The names of all models";
    Public GET  "/v2/models/{model}"                            v2::model,                 OpenInference Nothing        => ModelMetadata  "What a model takes and gives";
    Public GET  "/v2/models/{model}/ready"                      v2::model_ready,           OpenInference Nothing        => ModelReady     "Whether a model is served";
    Public POST "/v2/models/{model}/infer"                      v2::infer_model,           OpenInference InferRequest   => InferAnswer    "Run a model";
    Public GET  "/v2/models/{model}/versions/{version}"         v2::version,               OpenInference Nothing        => ModelMetadata  "What a version takes and gives";
    Public GET  "/v2/models/{model}/versions/{version}/ready"   v2::version_ready,         OpenInference Nothing        => ModelReady     "Whether a version is served";
    Public POST "/v2/models/{model}/versions/{version}/infer"   v2::infer_version,         OpenInference InferRequest   => InferAnswer    "Run a version of a model";

    Admin  GET  "/health"                                       health::summary,           Health        Nothing        => Summary        "The state of the server and of every model";
    Admin  GET  "/health/ready"                                 health::ready,             Health        Nothing        => Status         "Whether the server should be sent traffic";
    Admin  GET  "/health/live"                                  health::live,              Health        Nothing        => Status         "Whether the process answers";
    Admin  GET  "/readyz"                                       health::ready,             Health        Nothing        => Status         "The same as /health/ready";
    Admin  GET  "/livez"                                        health::live,              Health        Nothing        => Status         "The same as /health/live";
    Admin  GET  "/metrics"                                      metrics::render,           Health        Nothing        => Metrics        "Prometheus metrics";
};

/// Every route, behind the whole stack of layers.
pub fn router(app: App, config: &ServerConfig) -> Router {
    let app = Arc::new(app);
    let routes = ROUTES
        .iter()
        .fold(Router::new(), |router, route| {
            router.route(route.path, (route.handler)())
        })
        .fallback(error::unknown_path)
        .method_not_allowed_fallback(error::wrong_method)
        .with_state(app.clone());
    layers::stack(routes, app, config)
}
