//! The checked configuration: one small struct a concern, plain values that need no further parsing.
//!
//! `keys` is the one table of settings; `load` merges defaults, file, environment and flags; `validate` turns
//! the merged text into a [`Config`] or into the list of everything that is wrong with it.

pub mod keys;
pub mod load;
pub mod units;
pub mod validate;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::filter::Targets;

/// Everything that can be set, checked.
#[derive(Debug, Clone)]
pub struct Config {
    pub server: ServerConfig,
    pub limits: Limits,
    pub repository: RepositoryConfig,
    pub models: ModelsConfig,
    pub inference: InferenceConfig,
    pub log: LogConfig,
}

/// Where the server listens and how long it gives requests and itself.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub address: IpAddr,
    pub port: u16,
    pub drain_delay: Duration,
    pub request_timeout: Duration,
    /// Origins that browsers may call from; none turns CORS off.
    pub cors_origins: CorsOrigins,
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
    pub path: PathBuf,
    pub require_all: bool,
}

/// What `/predict` means without a model's name.
#[derive(Debug, Clone, Default)]
pub struct ModelsConfig {
    pub default: Option<String>,
    /// Pins the default model's version, in its canonical form.
    pub version: Option<String>,
}

/// How inference uses the machine.
#[derive(Debug, Clone, Copy)]
pub struct InferenceConfig {
    /// `None` follows the CPU quota.
    pub threads: Option<usize>,
    pub queue_rows: usize,
    /// How long loading a model's version may take.
    pub load_timeout: Duration,
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
