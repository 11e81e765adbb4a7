//! The checked configuration: one small struct a concern, plain values that need no further parsing.
//!
//! `keys` is the one table of settings; `load` merges defaults, file, environment and flags; `validate` turns
//! the merged text into a [`Config`] or into the list of everything that is wrong with it.

pub mod keys;
pub mod load;
pub mod remote_url;
pub mod units;
pub mod validate;

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::Targets;

use self::remote_url::RemoteUrl;

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub server: ServerConfig,
    pub limits: Limits,
    /// What all requests in flight may take of the memory together; `None` goes by the machine.
    pub bodies_in_flight_bytes: Option<usize>,
    pub repository: RepositoryConfig,
    pub models: ModelsConfig,
    pub inference: InferenceConfig,
    pub metrics: MetricsConfig,
    pub log: LogConfig,
}

/// Where the server listens and how long it gives requests and itself.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub address: IpAddr,
    pub port: u16,
    /// `None` serves no gRPC.
    pub grpc_port: Option<u16>,
    /// Where health, metrics and the control of models are, if not beside the models.
    pub admin_address: Option<SocketAddr>,
    pub drain_delay: Duration,
    pub request_timeout: Duration,
    pub connections: ConnectionLimits,
    /// A further path that answers like `/health/ready`.
    pub health_route: Option<String>,
    /// A further path that answers like `/predict`.
    pub predict_route: Option<String>,
    /// Origins that browsers may call from; none turns CORS off.
    pub cors_origins: CorsOrigins,
}

/// What clients may make a connection cost.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// For the head of a request, from its first byte on.
    pub header_timeout: Duration,
    /// For the whole body of a request, and for an answer that the client does not take.
    pub body_timeout: Duration,
    /// For a connection without a request.
    pub idle_timeout: Duration,
    /// Over all ports.
    pub max_connections: usize,
}

/// Which web origins may call the server from a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    Off,
    Any,
    List(Vec<String>),
}

/// The bounds on what one request may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub body_bytes: usize,
    pub tensor_elements: usize,
    pub json_depth: usize,
}

/// Where the models are and when they count as complete.
#[derive(Debug, Clone)]
pub struct RepositoryConfig {
    /// A folder or a file of this machine; empty where the models are elsewhere.
    pub path: PathBuf,
    /// Where the models are, if not on this machine.
    pub remote: Option<RemoteConfig>,
    pub mode: RepositoryMode,
    /// How often it is looked at under [`RepositoryMode::Watch`]; `None` leaves it to the kind of repository.
    pub poll: Option<Duration>,
    pub require_all: bool,
}

/// A repository that is mirrored into a folder of this machine.
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    pub url: RemoteUrl,
    /// The folder for the mirror; `None` is where the system has its caches.
    pub cache_path: Option<PathBuf>,
    /// What the mirror may take; `None` is what the disk has.
    pub cache_bytes: Option<u64>,
}

/// What changes the models that are served, once those that were found at start are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepositoryMode {
    /// What changes in the repository.
    Watch,
    /// Nothing.
    Static,
    /// Whoever asks through the API.
    Explicit,
}

/// What `/predict` means without a model's name.
#[derive(Debug, Clone, Default)]
pub struct ModelsConfig {
    pub default: Option<String>,
    /// Pins the default model's version, in its canonical form.
    pub version: Option<String>,
}

/// How inference uses the machine.
#[derive(Debug, Clone)]
pub struct InferenceConfig {
    /// `None` follows the CPU quota.
    pub threads: Option<usize>,
    pub engines: EngineRules,
    pub onnxruntime: LibraryPath,
    pub queue_rows: usize,
    /// What the inputs that wait for each model may take; `None` goes by the machine.
    pub queue_bytes: Option<usize>,
    /// What requests should take at most, waiting and running.
    pub latency_target: Option<Duration>,
    /// How long loading a model's version may take.
    pub load_timeout: Duration,
}

/// How a model comes by its engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineRules {
    pub engine: EngineChoice,
    pub agreement: Agreement,
    pub aim: Aim,
}

/// Which engine runs a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum EngineChoice {
    /// The best of those that agree.
    #[default]
    Auto,
    /// This one, whatever others say.
    Named(String),
}

impl TryFrom<String> for EngineChoice {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "auto" => Ok(EngineChoice::Auto),
            "tract" | "rten" | "onnxruntime" => Ok(EngineChoice::Named(name)),
            _ => Err(format!("expected {ENGINES}, got \"{name}\"")),
        }
    }
}

/// What an engine may be called in settings.
pub const ENGINES: &str = "auto, tract, rten or onnxruntime";

/// What follows when engines differ and nothing decides between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Agreement {
    /// The model is refused.
    #[default]
    Require,
    /// It is served, and the log says so.
    Warn,
}

/// What engines and threads are chosen for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aim {
    /// The most rows a second with every thread busy.
    #[default]
    Throughput,
    /// The shortest time of one request that is alone.
    Latency,
}

/// Where a library that is loaded at run time is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LibraryPath {
    /// In the usual places, if it is there.
    #[default]
    Usual,
    At(PathBuf),
    Off,
}

impl LibraryPath {
    /// The setting as it is written.
    pub fn parse(text: &str) -> Option<LibraryPath> {
        match text {
            "" => None,
            "auto" => Some(LibraryPath::Usual),
            "off" => Some(LibraryPath::Off),
            path => Some(LibraryPath::At(PathBuf::from(path))),
        }
    }

    /// The text that [`LibraryPath::parse`] reads.
    pub fn as_os_str(&self) -> &OsStr {
        match self {
            LibraryPath::Usual => OsStr::new("auto"),
            LibraryPath::Off => OsStr::new("off"),
            LibraryPath::At(path) => path.as_os_str(),
        }
    }
}

/// What the metrics show.
#[derive(Debug, Clone, Copy)]
pub struct MetricsConfig {
    /// Whether Triton's names are there too.
    pub triton_aliases: bool,
}

/// How the log is written.
#[derive(Debug, Clone)]
pub struct LogConfig {
    pub format: LogFormat,
    pub level: Targets,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
    Pretty,
    Json,
}
