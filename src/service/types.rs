//! The service's own words for requests, answers and states.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::ending::Ending;
use crate::in_flight::Room;
use crate::oip::parameters::OutputParameters;
use crate::oip::request::WantedOutput;
use crate::repository::remote::Status;
use crate::serving::agreement::verdict::Finding;
use crate::serving::deployment::Batching;
use crate::serving::lane::{Split, Timing};
use crate::tensor::value::NamedTensor;

/// An inference request, not yet checked against the model.
#[derive(Debug)]
pub struct InferRequest {
    pub inputs: Vec<NamedTensor>,
    /// The outputs that are wanted; empty means all.
    pub outputs: Vec<RequestedOutput>,
    /// How long the client waits, where it says so.
    pub timeout: Option<Duration>,
    /// The same by the request's parameter, which the model's owner may overrule.
    pub queue_timeout: Option<Duration>,
    /// Which level of priority it asks for, from 1 on; else it has the model's default.
    pub priority: Option<u32>,
    /// How long it took to read the request once all of it was there.
    pub decoding: Duration,
    /// What its outputs may take of the memory, which they hold until the answer is written.
    pub room: Room,
}

/// An output that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedOutput {
    pub name: String,
    /// How many of its best classes are wanted, in the place of its numbers.
    pub classes: Option<NonZeroUsize>,
}

impl From<WantedOutput> for RequestedOutput {
    /// How an output is written is the face's matter.
    fn from(WantedOutput { name, parameters }: WantedOutput) -> RequestedOutput {
        let OutputParameters { classes, binary: _ } = parameters;
        RequestedOutput { name, classes }
    }
}

/// The answer to an inference request.
pub struct InferResponse {
    pub outputs: Vec<NamedTensor>,
    /// The classes' names, where the model's owner gave some.
    pub class_names: Option<NamedTensor>,
    pub rows: usize,
    pub timing: Timing,
    /// To be told once the answer is written, which belongs to the request's time.
    pub ending: Ending,
}

/// The state of the server.
#[derive(Debug)]
pub struct Summary {
    /// Why the server should not be sent traffic, if so.
    pub unready_reason: Option<String>,
    pub uptime: Duration,
    pub default_model: Option<String>,
    pub models: Vec<ModelStatus>,
    /// How the store is that the models are mirrored from, if they are.
    pub remote: Option<Status>,
}

/// The state of one version of a model, or of a model that has none.
#[derive(Debug)]
pub struct ModelStatus {
    pub name: String,
    pub version: Option<String>,
    pub state: &'static str,
    pub reason: Option<String>,
    /// What the version is called beside its number.
    pub labels: Vec<String>,
    pub engine: Option<EngineStatus>,
}

/// Which engine serves a version, and what was found of all of them.
#[derive(Debug)]
pub struct EngineStatus {
    pub name: &'static str,
    pub why: String,
    pub split: Split,
    pub batching: Batching,
    pub findings: Vec<Finding>,
}
