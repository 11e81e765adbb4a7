//! A model's configuration, in the terms that clients of Triton know.
//!
//! It says what metadata says: a client that strips the batch dimension by one of them gets what the other has.

use std::time::Duration;

use super::Service;
use crate::error::Result;
use crate::repository::manifest::VersionPolicy;
use crate::repository::scheduling::{QueuePolicy, Scheduling, TimeoutAction};
use crate::serving::deployment::{Deployment, PLATFORM};
use crate::serving::registry::Target;
use crate::tensor::dtype::DataType;
use crate::tensor::signature::TensorSpec;

/// What runs models here, whichever engine does.
const BACKEND: &str = "onnxd";

/// How a model is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    pub name: String,
    pub platform: &'static str,
    pub backend: &'static str,
    pub version_policy: VersionPolicy,
    /// The most rows of one request; 0 where the first dimension does not stand for rows.
    pub max_batch_size: i32,
    pub inputs: Vec<TensorConfig>,
    pub outputs: Vec<TensorConfig>,
    pub instance_group: InstanceGroup,
    /// There exactly when requests are joined.
    pub dynamic_batching: Option<DynamicBatching>,
    pub default_model_filename: String,
    /// What the engine and the batches are and why, and what else cannot be said in Triton's terms.
    pub parameters: Vec<(&'static str, String)>,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorConfig {
    pub name: String,
    pub datatype: DataType,
    /// Without the batch dimension where there is one; -1 for what varies.
    pub dims: Vec<i64>,
    /// The file with the names of its classes, for an output that has some.
    pub label_filename: Option<String>,
}

/// The workers of a model, all on CPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceGroup {
    pub name: String,
    pub count: i32,
}

/// How requests are joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicBatching {
    /// As the owner set them.
    pub preferred_batch_size: Vec<i32>,
    pub max_queue_delay_us: u64,
    /// 0 where requests have no priorities.
    pub priority_levels: u64,
    pub default_priority_level: u64,
    pub default_queue_policy: QueuePolicyConfig,
    /// By the level.
    pub priority_queue_policy: Vec<(u64, QueuePolicyConfig)>,
}

/// What becomes of requests that wait for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePolicyConfig {
    pub timeout_action: TimeoutAction,
    /// 0 is none.
    pub default_timeout_us: u64,
    pub allow_timeout_override: bool,
    /// 0 is as many as the queue holds.
    pub max_queue_size: u32,
}

impl Service {
    /// How the version that `target` means is served.
    pub fn model_config(&self, target: &Target) -> Result<ModelConfig> {
        let deployment = self.deployment(target)?;
        let mut config = model_config(&deployment);
        let table = self.registry.table();
        // What its owner says of all the versions may have changed since this one was loaded.
        if let Some(entry) = table.models.get(&config.name) {
            config.version_policy = entry.policy.clone();
            let labels = entry.labels_in_words();
            config
                .parameters
                .extend(labels.map(|labels| ("version_labels", labels)));
        }
        Ok(config)
    }
}

fn model_config(deployment: &Deployment) -> ModelConfig {
    let facts = &deployment.facts;
    let signature = deployment.signature();
    let max_batch_size = deployment.max_batch_rows().unwrap_or(0);
    let batching = deployment.batching();
    let tensors = |specs: &[TensorSpec]| {
        let tensor = |spec: &TensorSpec| TensorConfig {
            name: spec.name.clone(),
            datatype: spec.dtype,
            dims: match max_batch_size {
                0 => spec.wire_shape(),
                _ => spec.wire_shape().split_off(1),
            },
            label_filename: facts.label_file(&spec.name).map(str::to_owned),
        };
        specs.iter().map(tensor).collect()
    };
    let filename = facts.files.path.file_name().unwrap_or_default();
    ModelConfig {
        name: facts.model.clone(),
        platform: PLATFORM,
        backend: BACKEND,
        version_policy: VersionPolicy::default(),
        max_batch_size: i32::try_from(max_batch_size).unwrap_or(i32::MAX),
        inputs: tensors(&signature.inputs),
        outputs: tensors(&signature.outputs),
        instance_group: InstanceGroup {
            name: facts.model.clone(),
            count: i32::try_from(deployment.split.workers).unwrap_or(i32::MAX),
        },
        dynamic_batching: (batching.decision.rows > 1).then(|| dynamic(&facts.knobs.set)),
        default_model_filename: filename.to_string_lossy().into_owned(),
        parameters: vec![
            ("engine", deployment.loaded.engine.to_owned()),
            ("engine_reason", deployment.why.clone()),
            ("instances", deployment.split.workers.to_string()),
            ("threads_per_instance", deployment.split.threads.to_string()),
            ("batch_rows", batching.decision.rows.to_string()),
            ("batch_reason", batching.reason()),
            (
                "priority_levels",
                facts.knobs.set.priority_levels.to_string(),
            ),
        ],
    }
}

fn dynamic(set: &Scheduling) -> DynamicBatching {
    let preferred = set.preferred_batch_rows.iter();
    let policies = set.priority_queue_policy.iter();
    DynamicBatching {
        preferred_batch_size: preferred
            .map(|rows| i32::try_from(*rows).unwrap_or(i32::MAX))
            .collect(),
        max_queue_delay_us: micros(set.max_queue_delay),
        priority_levels: set.priority_levels as u64,
        default_priority_level: match set.priority_levels {
            0 => 0,
            _ => set.default_level() as u64,
        },
        default_queue_policy: policy(set.queue_policy),
        priority_queue_policy: policies
            .map(|(level, own)| (*level as u64, policy(*own)))
            .collect(),
    }
}

fn policy(policy: QueuePolicy) -> QueuePolicyConfig {
    let QueuePolicy {
        timeout_action,
        default_timeout,
        allow_timeout_override,
        max_queue_rows,
    } = policy;
    QueuePolicyConfig {
        timeout_action,
        default_timeout_us: micros(default_timeout),
        allow_timeout_override,
        max_queue_size: max_queue_rows.map_or(0, |rows| u32::try_from(rows).unwrap_or(u32::MAX)),
    }
}

fn micros(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| {
        u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
    })
}
