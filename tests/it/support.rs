//! What every area uses: a server in this process on a port of the system's choice, a client, and an engine that
//! does as its model file says.

pub mod client;
pub mod engine;
pub mod grpc;
pub mod http2;
pub mod onnx;
pub mod planted;
pub mod process;
pub mod protobuf;
pub mod running;
pub mod samples;
pub mod server;
mod waiting;

use std::path::PathBuf;
use std::time::Duration;

pub use waiting::eventually;

/// Nothing here takes so long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A file of this repository.
pub fn in_repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
