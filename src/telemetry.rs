//! What an operator sees: metrics, logs and the limits that the container runs under.

pub mod cgroup;
pub mod log_writer;
pub mod logging;
pub mod metrics;
pub mod process;
