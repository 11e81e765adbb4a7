//! Every method that is served, by path: what metrics call it, and how it is treated.

/// What becomes of a method's calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One answer, which the server's longest time holds for.
    Unary,
    /// The same, asked every few seconds.
    Probe,
    /// Answers for as long as the client stays.
    Stream,
}

/// One method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// The service and its method, as the path has them behind its first slash.
    pub name: &'static str,
    pub kind: Kind,
}

const fn method(name: &'static str, kind: Kind) -> Method {
    Method { name, kind }
}

/// Whatever else a client calls is one label, so that it cannot mint series.
const UNKNOWN: Method = method("unknown", Kind::Unary);

/// The methods that are served.
pub const METHODS: [Method; 16] = [
    method("inference.GRPCInferenceService/ServerLive", Kind::Probe),
    method("inference.GRPCInferenceService/ServerReady", Kind::Probe),
    method("inference.GRPCInferenceService/ModelReady", Kind::Probe),
    method("inference.GRPCInferenceService/ServerMetadata", Kind::Unary),
    method("inference.GRPCInferenceService/ModelMetadata", Kind::Unary),
    method("inference.GRPCInferenceService/ModelInfer", Kind::Unary),
    method(
        "inference.GRPCInferenceService/ModelStreamInfer",
        Kind::Stream,
    ),
    method("inference.GRPCInferenceService/ModelConfig", Kind::Unary),
    method(
        "inference.GRPCInferenceService/ModelStatistics",
        Kind::Unary,
    ),
    method(
        "inference.GRPCInferenceService/RepositoryIndex",
        Kind::Unary,
    ),
    method(
        "inference.GRPCInferenceService/RepositoryModelLoad",
        Kind::Unary,
    ),
    method(
        "inference.GRPCInferenceService/RepositoryModelUnload",
        Kind::Unary,
    ),
    method("grpc.health.v1.Health/Check", Kind::Probe),
    method("grpc.health.v1.Health/Watch", Kind::Stream),
    method(
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Kind::Stream,
    ),
    method(
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        Kind::Stream,
    ),
];

impl Method {
    /// The method of this path.
    pub fn of(path: &str) -> Method {
        let name = path.strip_prefix('/').unwrap_or_default();
        let found = METHODS.into_iter().find(|method| method.name == name);
        found.unwrap_or(UNKNOWN)
    }
}
