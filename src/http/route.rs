//! What a row of the route table says: enough to serve the route, to document it, and to know whom it is for.

use std::borrow::Cow;
use std::sync::Arc;

use axum::routing::MethodRouter;

use super::App;

/// One route: a method on a path.
#[derive(Clone)]
pub struct Route {
    pub audience: Audience,
    pub method: &'static str,
    /// As OpenAPI writes it: with `{parameters}`, and perhaps a `:verb` behind the last.
    pub path: Cow<'static, str>,
    /// Makes axum's form of the handler, whose type only this function knows.
    pub handler: fn() -> MethodRouter<Arc<App>>,
    pub doc: Doc,
}

impl Route {
    /// The path for axum, which knows parameters only as whole segments; the handler finds the verb in its own.
    pub fn matched(&self) -> &str {
        match self.path.split_once("}:") {
            Some((path, _)) => &self.path[..=path.len()],
            None => &self.path,
        }
    }

    /// Whether it answers requests to this path, which has no parameters.
    pub fn covers(&self, method: &str, path: &str) -> bool {
        self.method == method && self.fits(path)
    }

    fn fits(&self, path: &str) -> bool {
        let (own, other) = (self.matched().split('/'), path.split('/'));
        let fits = |(own, other): (&str, &str)| own == other || own.starts_with('{');
        own.clone().count() == other.clone().count() && own.zip(other).all(fits)
    }

    fn has_verb(&self) -> bool {
        self.path.contains("}:")
    }
}

/// The methods that a path has, as the header `Allow` lists them. Where some routes want a verb behind the last
/// parameter, those with one and those without are different resources.
pub fn methods_at(routes: &[Route], path: &str) -> String {
    let mut routes: Vec<&Route> = routes.iter().filter(|route| route.fits(path)).collect();
    if routes.iter().any(|route| route.has_verb()) {
        let has_verb = path
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains(':'));
        routes.retain(|route| route.has_verb() == has_verb);
    }
    let methods = routes.into_iter().map(|route| match route.method {
        "GET" => "GET,HEAD",
        method => method,
    });
    methods.collect::<Vec<_>>().join(",")
}

/// Whom a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Whoever sends requests to models.
    Public,
    /// Whoever runs the server: metrics, loading and unloading.
    Admin,
    /// Both: health, and what else is known of the server.
    Everyone,
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
    OpenInference,
    Repository,
    TensorFlow,
    Cloud,
    Health,
    Server,
}

impl Tag {
    /// Every tag, in the order in which the document shows them.
    pub const ALL: [Tag; 7] = [
        Tag::Predict,
        Tag::OpenInference,
        Tag::Repository,
        Tag::TensorFlow,
        Tag::Cloud,
        Tag::Health,
        Tag::Server,
    ];

    /// The tag's name and what it stands for.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Tag::Predict => (
                "Predict",
                "Rows, columns or tensors, answered in the style of the request",
            ),
            Tag::OpenInference => (
                "Open Inference Protocol",
                "Version 2 of KServe's protocol, which Triton and others speak",
            ),
            Tag::Repository => (
                "Repository",
                "Which models there are, and which of them are served",
            ),
            Tag::TensorFlow => (
                "TensorFlow Serving",
                "Its REST API, which is also version 1 of KServe's protocol",
            ),
            Tag::Cloud => (
                "Cloud platforms",
                "What Amazon SageMaker asks of a container",
            ),
            Tag::Health => ("Health", "For probes, load balancers and Prometheus"),
            Tag::Server => ("Server", "Pages and this document"),
        }
    }
}

/// What a body holds. Each has its media type and its schema in the OpenAPI document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// No body.
    Nothing,
    /// A page for people.
    Page,
    /// A page for people, a few words for programs.
    Home,
    Style,
    Script,
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
    ModelConfig,
    Statistics,
    IndexRequest,
    Index,
    ControlRequest,
    InferRequest,
    InferAnswer,
    TensorFlowNames,
    TensorFlowStatus,
    TensorFlowMetadata,
    TensorFlowRequest,
    TensorFlowAnswer,
    InvocationRequest,
    InvocationAnswer,
}

impl Content {
    /// Whether a request may leave the body out.
    pub fn is_optional(self) -> bool {
        matches!(self, Content::IndexRequest | Content::ControlRequest)
    }

    /// Whether it is a request to run a model, or the answer to one.
    pub fn is_inference(self) -> bool {
        matches!(
            self,
            Content::PredictRequest
                | Content::PredictAnswer
                | Content::InferRequest
                | Content::InferAnswer
                | Content::TensorFlowRequest
                | Content::TensorFlowAnswer
                | Content::InvocationRequest
                | Content::InvocationAnswer
        )
    }
}

/// Writes routes as a table, one row each:
/// `audience method path handler tag takes => answers summary;`
macro_rules! routes {
    ($($audience:ident $method:ident $path:literal $handler:path,
       $tag:ident $takes:ident => $answers:ident $summary:literal;)*) => {
        &[$($crate::http::route::Route {
            audience: $crate::http::route::Audience::$audience,
            method: stringify!($method),
            path: std::borrow::Cow::Borrowed($path),
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
