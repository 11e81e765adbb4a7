//! Everything that any protocol may do, in protocol-neutral types. A face only translates to and from this.

mod classification;
mod ending;
pub mod metadata;
pub mod model_config;
pub mod outputs;
pub mod repository;
mod schedule;
pub mod statistics;
pub mod types;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ending::{Ending, outcome};
use repository::ModelControl;
use types::{EngineStatus, InferRequest, InferResponse, ModelStatus, RequestedOutput, Summary};

use crate::config::RepositoryMode;
use crate::error::{Error, Result};
use crate::repository::Version;
use crate::repository::remote::Status;
use crate::serving::deployment::Deployment;
use crate::serving::lane::{Request, Timing};
use crate::serving::registry::{Registry, Scan, Table, Target, VersionState};
use crate::serving::statistics::{Counted, Ran};
use crate::shutdown::Shutdown;
use crate::telemetry::metrics::InferenceRequest;
use crate::tensor::signature::Signature;
use crate::tensor::value::{NamedTensor, Tensor};

/// The server's name in metadata.
pub const NAME: &str = "onnxd";
/// The server's version in metadata.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The façade over what is live. Cloning shares it.
#[derive(Clone)]
pub struct Service {
    registry: Arc<Registry>,
    shutdown: Shutdown,
    settings: ServiceSettings,
    control: Option<ModelControl>,
    remote: Option<Status>,
    started: Instant,
}

/// What the service needs of the configuration.
#[derive(Debug, Clone, Copy)]
pub struct ServiceSettings {
    /// Caps every deadline.
    pub request_timeout: Duration,
    /// Not ready while any model that was found has no served version.
    pub require_all: bool,
    /// What changes the models that are served.
    pub mode: RepositoryMode,
}

impl Service {
    /// A service over the models of `registry`.
    pub fn new(registry: Arc<Registry>, shutdown: Shutdown, settings: ServiceSettings) -> Self {
        Self {
            registry,
            shutdown,
            settings,
            control: None,
            remote: None,
            started: Instant::now(),
        }
    }

    /// The same service, whose models are mirrored from elsewhere.
    pub fn with_remote(self, status: Status) -> Self {
        Self {
            remote: Some(status),
            ..self
        }
    }

    /// The same service, whose models can be loaded and unloaded.
    pub fn with_control(self, control: ModelControl) -> Self {
        Self {
            control: Some(control),
            ..self
        }
    }

    /// Begins an inference request to the model that `target` means. It counts as canceled if it is dropped.
    pub fn call(&self, target: &Target) -> Result<Call> {
        let deployment = self.registry.resolve(target)?;
        let counted = deployment.metrics.request();
        let started = Instant::now();
        let statistics = deployment.facts.statistics.request(started);
        Ok(Call {
            deployment,
            counted,
            statistics,
            started,
            longest: self.settings.request_timeout,
        })
    }

    /// The served version that `target` means, for metadata.
    pub fn deployment(&self, target: &Target) -> Result<Arc<Deployment>> {
        self.registry.resolve(target)
    }

    /// The names of all models that were found.
    pub fn model_names(&self) -> Vec<String> {
        self.registry.table().names().cloned().collect()
    }

    /// The served versions of a model, oldest first.
    pub fn served_versions(&self, model: &str) -> Result<Vec<String>> {
        let table = self.registry.table();
        let mut versions: Vec<_> = table
            .model(model)?
            .served()
            .map(|(version, _)| version)
            .collect();
        versions.sort_unstable();
        Ok(versions
            .into_iter()
            .map(|version| version.to_string())
            .collect())
    }

    /// A model's labels, each with the version that it names.
    pub fn labels(&self, model: &str) -> Result<BTreeMap<String, Version>> {
        Ok(self.registry.table().model(model)?.labels.clone())
    }

    /// Why the server should not be sent traffic, if so.
    pub fn unready_reason(&self) -> Option<String> {
        self.unready_reason_of(&self.registry.table())
    }

    fn unready_reason_of(&self, table: &Table) -> Option<String> {
        match self.shutdown.is_draining() {
            true => Some("the server is shutting down".to_owned()),
            false => table.unready_reason(self.settings.require_all),
        }
    }

    /// The state of the server and all its models.
    pub fn summary(&self) -> Summary {
        let table = self.registry.table();
        let mut models = Vec::new();
        for (name, model) in &table.models {
            let status = |version: Option<String>, state: &'static str, reason| ModelStatus {
                name: name.clone(),
                version,
                state,
                reason,
                labels: Vec::new(),
                engine: None,
            };
            if let Some(problem) = &model.problem {
                models.push(status(None, "failed", Some(problem.clone())));
            }
            models.extend(model.versions.iter().map(|(version, state)| {
                let (reason, engine) = match state {
                    VersionState::Failed(error) => (Some(error.chain()), None),
                    VersionState::Ready(deployment) => (
                        model.refused_reason(*version),
                        Some(engine_status(deployment)),
                    ),
                    VersionState::Loading | VersionState::Draining(_) | VersionState::Unloaded => {
                        (None, None)
                    }
                };
                let status = status(Some(version.to_string()), state.name(), reason);
                ModelStatus {
                    engine,
                    labels: model.labels_of(*version).cloned().collect(),
                    ..status
                }
            }));
        }
        Summary {
            // Of the same moment as the models.
            unready_reason: self.unready_reason_of(&table),
            uptime: self.started.elapsed(),
            default_model: table
                .default_model
                .clone()
                .filter(|_| table.scan == Scan::Done),
            models,
            remote: self.remote.clone(),
        }
    }
}

/// One inference request on its way, which is counted by how it ends.
pub struct Call {
    deployment: Arc<Deployment>,
    counted: InferenceRequest,
    statistics: Counted,
    started: Instant,
    longest: Duration,
}

impl Call {
    /// The version that will answer.
    pub fn deployment(&self) -> &Arc<Deployment> {
        &self.deployment
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        self.deployment.signature()
    }

    /// Ends the request with an error that was found before it could run.
    pub fn fail(self, error: Error) -> Error {
        self.counted.finish(outcome(error.kind()));
        error
    }

    /// Checks the request, queues it and waits for its outputs.
    pub async fn run(self, request: InferRequest) -> Result<InferResponse> {
        let Call {
            deployment,
            counted,
            mut statistics,
            started,
            longest,
        } = self;
        statistics.decoded(request.decoding, Instant::now());
        let timeout = schedule::timeout(&deployment.facts.knobs, &request);
        let timeout = timeout.map_or(longest, |timeout| timeout.min(longest));
        match run(&deployment, request, started + timeout).await {
            Ok(Outputs {
                outputs,
                class_names,
                rows,
                timing,
                ran,
            }) => Ok(InferResponse {
                outputs,
                class_names,
                rows,
                timing,
                ending: Ending {
                    counted,
                    statistics,
                    ran,
                },
            }),
            Err(error) => {
                counted.finish(outcome(error.kind()));
                Err(error)
            }
        }
    }
}

/// What a request's run gave.
struct Outputs {
    outputs: Vec<NamedTensor>,
    class_names: Option<NamedTensor>,
    rows: usize,
    timing: Timing,
    ran: Ran,
}

async fn run(deployment: &Deployment, request: InferRequest, deadline: Instant) -> Result<Outputs> {
    let priority = schedule::priority(&deployment.facts.knobs, &request)?;
    let InferRequest {
        inputs,
        outputs: wanted,
        timeout: _,
        queue_timeout: _,
        priority: _,
        decoding,
        room,
    } = request;
    let checking = Instant::now();
    outputs::check(&wanted, deployment.signature())?;
    let inputs = deployment.signature().check(inputs)?;
    let rows = inputs.rows();
    let compute_input = decoding + checking.elapsed();
    let request = Request {
        inputs,
        deadline,
        priority,
        room,
    };
    let completed = deployment.run(request).await?;
    let ran = Ran {
        rows: completed.rows,
        batch_rows: completed.batch_rows,
        queue: completed.timing.queue,
        compute_input,
        compute_infer: completed.timing.compute,
        ended: Instant::now(),
    };
    let (outputs, class_names) = convert(deployment, completed.outputs, &wanted)?;
    Ok(Outputs {
        outputs,
        class_names,
        rows,
        timing: completed.timing,
        ran,
    })
}

/// The outputs that are wanted, as they are wanted, and the names of the classes among them.
fn convert(
    deployment: &Deployment,
    outputs: Vec<Tensor>,
    wanted: &[RequestedOutput],
) -> Result<(Vec<NamedTensor>, Option<NamedTensor>)> {
    let signature = deployment.signature();
    let mut outputs = signature.named_outputs(outputs);
    outputs::select(&mut outputs, wanted);
    let class_names = deployment.class_names(&outputs);
    let model = outputs::Classified {
        signature,
        // As the model's configuration says, by which clients know how to read the classes.
        has_rows: deployment.max_batch_rows().is_some(),
        labels: &|output, classes| deployment.labels(output, classes),
    };
    outputs::classify(&mut outputs, wanted, &model)?;
    Ok((outputs, class_names))
}

fn engine_status(deployment: &Deployment) -> EngineStatus {
    EngineStatus {
        name: deployment.loaded.engine,
        why: deployment.why.clone(),
        split: deployment.split,
        batching: deployment.batching(),
        findings: deployment.facts.verdict.findings.clone(),
    }
}
