//! The HTTP faces: the route table, and nothing else.

pub mod binary;
pub mod collect;
pub mod compression;
pub mod connections;
pub mod csv;
pub mod docs;
pub mod edge;
pub mod error;
pub mod health;
pub mod home;
pub mod infer;
pub mod layers;
pub mod metrics;
pub mod openapi;
pub mod paced;
pub mod route;
pub mod sagemaker;
pub mod v1;
pub mod v2;

use std::sync::Arc;

use axum::Router;

use self::route::{Audience, Route, routes};
use crate::config::{Limits, ServerConfig};
use crate::in_flight::RequestBudget;
use crate::service::Service;
use crate::service::repository::Door;
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::Metrics;

/// What the handlers share.
#[derive(Clone)]
pub struct App {
    pub service: Service,
    pub metrics: Metrics,
    pub shutdown: Shutdown,
    pub limits: Limits,
    pub in_flight: RequestBudget,
    /// Where requests come in.
    pub door: Door,
    /// What it all serves, which it tells of.
    pub routes: Arc<[Route]>,
}

/// Every route, in the order in which they are documented.
pub const ROUTES: &[Route] = routes! {
    Public   GET  "/"                                              home::home,                  Server        Nothing           => Home               "What runs here, and where to look";
    Public   GET  "/docs"                                          docs::page,                  Server        Nothing           => Page               "This document as a page";
    Public   GET  "/docs/page.css"                                 docs::style,                 Server        Nothing           => Style              "The page's style";
    Public   GET  "/docs/page.js"                                  docs::script,                Server        Nothing           => Script             "The page's script";
    Public   GET  "/openapi.json"                                  openapi::document,           Server        Nothing           => Object             "This document";

    Public   POST "/predict"                                       infer::predict_default,      Predict       PredictRequest    => PredictAnswer      "Predict with the default model";
    Public   POST "/predict/{model}"                               infer::predict_model,        Predict       PredictRequest    => PredictAnswer      "Predict with a model";
    Public   POST "/predict/{model}/{version}"                     infer::predict_version,      Predict       PredictRequest    => PredictAnswer      "Predict with a version of a model";

    Everyone GET  "/v2"                                            v2::server,                  OpenInference Nothing           => ServerMetadata     "The server and its protocol extensions";
    Everyone GET  "/v2/health/live"                                v2::live,                    OpenInference Nothing           => Live               "Whether the process answers";
    Everyone GET  "/v2/health/ready"                               v2::ready,                   OpenInference Nothing           => Ready              "Whether the server should be sent traffic";
    Public   GET  "/v2/models"                                     v2::models,                  OpenInference Nothing           => ModelNames         "The names of all models";
    Public   GET  "/v2/models/stats"                               v2::statistics::models,      OpenInference Nothing           => Statistics         "What all models have done";
    Public   GET  "/v2/models/{model}"                             v2::metadata::model,         OpenInference Nothing           => ModelMetadata      "What a model takes and gives";
    Public   GET  "/v2/models/{model}/ready"                       v2::metadata::model_ready,   OpenInference Nothing           => ModelReady         "Whether a model is served";
    Public   GET  "/v2/models/{model}/config"                      v2::config::model,           OpenInference Nothing           => ModelConfig        "How a model is served";
    Public   GET  "/v2/models/{model}/stats"                       v2::statistics::model,       OpenInference Nothing           => Statistics         "What a model's versions have done";
    Public   POST "/v2/models/{model}/infer"                       v2::infer_model,             OpenInference InferRequest      => InferAnswer        "Run a model";
    Public   GET  "/v2/models/{model}/versions/{version}"          v2::metadata::version,       OpenInference Nothing           => ModelMetadata      "What a version takes and gives";
    Public   GET  "/v2/models/{model}/versions/{version}/ready"    v2::metadata::version_ready, OpenInference Nothing           => ModelReady         "Whether a version is served";
    Public   GET  "/v2/models/{model}/versions/{version}/config"   v2::config::version,         OpenInference Nothing           => ModelConfig        "How a version is served";
    Public   GET  "/v2/models/{model}/versions/{version}/stats"    v2::statistics::version,     OpenInference Nothing           => Statistics         "What a version has done";
    Public   POST "/v2/models/{model}/versions/{version}/infer"    v2::infer_version,           OpenInference InferRequest      => InferAnswer        "Run a version of a model";
    Everyone POST "/v2/repository/index"                           v2::repository::index,       Repository    IndexRequest      => Index              "Every version in the repository, with its state";
    Admin    POST "/v2/repository/models/{model}/load"             v2::repository::load,        Repository    ControlRequest    => Object             "Load a model, or load it anew";
    Admin    POST "/v2/repository/models/{model}/unload"           v2::repository::unload,      Repository    ControlRequest    => Object             "Take a model out of service";

    Public   GET  "/v1/models"                                     v1::models,                  TensorFlow    Nothing           => TensorFlowNames    "The names of all models";
    Public   GET  "/v1/models/{model}"                             v1::model,                   TensorFlow    Nothing           => TensorFlowStatus   "The state of a model's versions";
    Public   GET  "/v1/models/{model}/metadata"                    v1::model_metadata,          TensorFlow    Nothing           => TensorFlowMetadata "What a model takes and gives";
    Public   POST "/v1/models/{model}:predict"                     v1::predict_model,           TensorFlow    TensorFlowRequest => TensorFlowAnswer   "Run a model";
    Public   GET  "/v1/models/{model}/versions/{version}"          v1::version,                 TensorFlow    Nothing           => TensorFlowStatus   "The state of a version";
    Public   GET  "/v1/models/{model}/versions/{version}/metadata" v1::version_metadata,        TensorFlow    Nothing           => TensorFlowMetadata "What a version takes and gives";
    Public   POST "/v1/models/{model}/versions/{version}:predict"  v1::predict_version,         TensorFlow    TensorFlowRequest => TensorFlowAnswer   "Run a version of a model";
    Public   GET  "/v1/models/{model}/labels/{label}"              v1::label,                   TensorFlow    Nothing           => TensorFlowStatus   "The state of the version with a label";
    Public   GET  "/v1/models/{model}/labels/{label}/metadata"     v1::label_metadata,          TensorFlow    Nothing           => TensorFlowMetadata "What the version with a label takes and gives";
    Public   POST "/v1/models/{model}/labels/{label}:predict"      v1::predict_label,           TensorFlow    TensorFlowRequest => TensorFlowAnswer   "Run the version with a label";

    Public   GET  "/ping"                                          health::ready,               Cloud         Nothing           => Status             "Amazon SageMaker: whether the server is ready";
    Public   POST "/invocations"                                   sagemaker::invoke,           Cloud         InvocationRequest => InvocationAnswer   "Amazon SageMaker: predict with the default model";

    Everyone GET  "/health"                                        health::summary,             Health        Nothing           => Summary            "The state of the server and of every model";
    Everyone GET  "/health/ready"                                  health::ready,               Health        Nothing           => Status             "Whether the server should be sent traffic";
    Everyone GET  "/health/live"                                   health::live,                Health        Nothing           => Status             "Whether the process answers";
    Everyone GET  "/readyz"                                        health::ready,               Health        Nothing           => Status             "The same as /health/ready";
    Everyone GET  "/livez"                                         health::live,                Health        Nothing           => Status             "The same as /health/live";
    Admin    GET  "/metrics"                                       metrics::render,             Health        Nothing           => Metrics            "Prometheus metrics";
};

/// The table, and the paths that the configuration adds to it: each is one more of a row that is there.
pub fn routes(config: &ServerConfig) -> Vec<Route> {
    let mut routes = ROUTES.to_vec();
    let further = [
        ("GET", "/health/ready", &config.health_route),
        ("POST", "/predict", &config.predict_route),
    ];
    for (method, like, path) in further {
        let row = routes.iter().find(|route| route.covers(method, like));
        if let (Some(row), Some(path)) = (row, path)
            && !routes.iter().any(|route| route.covers(method, path))
        {
            let path = path.clone().into();
            routes.push(Route {
                path,
                ..row.clone()
            });
        }
    }
    routes
}

/// Those of the routes that are served at this door, where there are two.
pub fn at_door(routes: &[Route], door: Door) -> Arc<[Route]> {
    let is_served = |route: &&Route| match route.audience {
        Audience::Everyone => true,
        Audience::Public => door == Door::Public,
        Audience::Admin => door == Door::Admin,
    };
    routes.iter().filter(is_served).cloned().collect()
}

/// Every route, behind the whole stack of layers.
pub fn router(app: App, config: &ServerConfig) -> Router {
    let app = Arc::new(app);
    let routes = app.routes.iter().fold(Router::new(), |router, route| {
        router.route(route.matched(), (route.handler)())
    });
    let routes = routes
        .fallback(error::unknown_path)
        .method_not_allowed_fallback(error::wrong_method)
        .with_state(app.clone());
    layers::stack(routes, app, config)
}
