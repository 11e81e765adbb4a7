//! The service's own words for requests, answers and states.

use std::time::Duration;

use crate::serving::agreement::verdict::Finding;
use crate::serving::lane::{Split, Timing};
use crate::tensor::value::NamedTensor;

/// An inference request, not yet checked against the model.
#[derive(Debug)]
pub struct InferRequest {
    pub inputs: Vec<NamedTensor>,
    /// The outputs that are wanted; empty means all.
    pub outputs: Vec<String>,
    /// How long the client waits, where it says so.
    pub timeout: Option<Duration>,
}

/// The answer to an inference request.
#[derive(Debug)]
pub struct InferResponse {
    pub outputs: Vec<NamedTensor>,
    /// The classes' names, where the model's owner gave some.
    pub class_names: Option<NamedTensor>,
    pub rows: usize,
    pub timing: Timing,
}

/// The state of the server.
#[derive(Debug)]
pub struct Summary {
    /// Why the server should not be sent traffic, if so.
    pub unready_reason: Option<String>,
    pub uptime: Duration,
    pub default_model: Option<String>,
    pub models: Vec<ModelStatus>,
}

/// The state of one version of a model, or of a model that has none.
#[derive(Debug)]
pub struct ModelStatus {
    pub name: String,
    pub version: Option<String>,
    pub state: &'static str,
    pub reason: Option<String>,
    pub engine: Option<EngineStatus>,
}

/// Which engine serves a version, and what was found of all of them.
#[derive(Debug)]
pub struct EngineStatus {
    pub name: &'static str,
    pub why: String,
    pub split: Split,
    pub findings: Vec<Finding>,
}

/// Keeps the outputs that are wanted, in the order in which they were asked for; all of them if none was named.
pub fn select_outputs(outputs: &mut Vec<NamedTensor>, wanted: &[String]) {
    if !wanted.is_empty() {
        let position =
            |output: &NamedTensor| wanted.iter().position(|wanted| *wanted == output.name);
        outputs.retain(|output| position(output).is_some());
        outputs.sort_by_key(position);
    }
}
