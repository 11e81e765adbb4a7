//! What a row of the route table says: enough to serve the route, to document it, and to know whom it is for.

use std::sync::Arc;

use axum::routing::MethodRouter;

use super::App;

/// One route: a method on a path.
#[derive(Clone, Copy)]
pub struct Route {
    pub audience: Audience,
    pub method: &'static str,
    /// As axum and OpenAPI both write it, with `{parameters}`.
    pub path: &'static str,
    /// Makes axum's form of the handler, whose type only this function knows.
    pub handler: fn() -> MethodRouter<Arc<App>>,
    pub doc: Doc,
}

/// Whom a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Whoever sends requests to models.
    Public,
    /// Whoever runs the server: health, metrics, loading and unloading.
    Admin,
}

/// What OpenAPI says of a route.
#[derive(Debug, Clone, Copy)]
pub struct Doc {
    pub tag: Tag,
    pub takes: Content,
    pub answers: Content,
    pub summary: &'static str,
}

/// Which protocol a route belongs to; routes of one are shown together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    Predict,
    Health,
    OpenInference,
    Server,
}

/// What a body holds. Each has its media type and its schema in the OpenAPI document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// No body.
    Nothing,
    /// A page for people.
    Page,
    /// Prometheus's text.
    Metrics,
    /// A JSON object that is not described further.
    Object,
    Summary,
    Status,
    PredictRequest,
    PredictAnswer,
    ServerMetadata,
    Live,
    Ready,
    ModelNames,
    ModelMetadata,
    ModelReady,
    InferRequest,
    InferAnswer,
}

/// Writes routes as a table, one row each:
/// `audience method path handler tag takes => answers summary;`
macro_rules! routes {
    ($($audience:ident $method:ident $path:literal $handler:path,
       $tag:ident $takes:ident => $answers:ident $summary:literal;)*) => {
        &[$($crate::http::route::Route {
            audience: $crate::http::route::Audience::$audience,
            method: stringify!($method),
            path: $path,
            handler: || $crate::http::route::routes!(@$method $handler),
            doc: $crate::http::route::Doc {
                tag: $crate::http::route::Tag::$tag,
                takes: $crate::http::route::Content::$takes,
                answers: $crate::http::route::Content::$answers,
                summary: $summary,
            },
        }),*]
    };
    (@GET $handler:path) => { axum::routing::get($handler) };
    (@POST $handler:path) => { axum::routing::post($handler) };
}
pub(super) use routes;
