//! onnxd, a model inference server. The modules stand bottom-up: each imports only from those above it here.
//!
//! ```text
//! 8  main · cli                       talk to people
//! 7  server                           composition root: build, bind, run, drain
//! 6  http ‖ grpc                      wire ⇄ service types; the only rooms that know a transport
//! 5  service ‖ exchange               the façade: infer · metadata · readiness ‖ what every transport does around a request
//! 4  serving                          what is live: registry, deployments, lanes, batcher
//! 3  engine ‖ repository              how a model runs ‖ what is in storage
//! 2  oip · telemetry · shutdown       JSON form of tensors · metrics and logs · signals and drain
//! 1  tensor ‖ config ‖ in_flight     vocabulary ‖ settings ‖ what requests may take of the memory
//! 0  error ‖ allocator                Error and its closed ErrorKind ‖ memory with a bound
//! ```
//!
//! `tests/tidy.rs` proves that nothing imports upwards or sideways.

pub mod allocator;
pub mod error;

pub mod config;
pub mod in_flight;
pub mod tensor;

pub mod oip;
pub mod shutdown;
pub mod telemetry;

pub mod engine;
pub mod repository;

pub mod serving;

pub mod exchange;
pub mod service;

pub mod grpc;
pub mod http;

pub mod server;

pub mod cli;
