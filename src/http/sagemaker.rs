//! Amazon SageMaker's two routes: `/ping`, which is `/health/ready`, and `/invocations`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;

use super::App;
use super::infer::{Face, infer};
use crate::serving::registry::Target;

/// `POST /invocations`
pub async fn invoke(State(app): State<Arc<App>>, request: Request) -> Response {
    infer(&app, Target::default(), Face::Predict, request).await
}
