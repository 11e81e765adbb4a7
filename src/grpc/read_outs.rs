//! What the service tells of models, in the protocol's messages.

use super::inference;
use super::inference::DataType as WireType;
use super::inference::model_metadata_response;
use super::inference::model_queue_policy;
use super::inference::model_version_policy::{All, Latest, PolicyChoice, Specific};
use super::inference::repository_index_response::ModelIndex;
use crate::repository::Version;
use crate::repository::manifest::VersionPolicy;
use crate::repository::scheduling::TimeoutAction;
use crate::service::metadata::{ModelMetadata, TensorMetadata};
use crate::service::model_config::{
    DynamicBatching, InstanceGroup, ModelConfig, QueuePolicyConfig, TensorConfig,
};
use crate::service::repository::IndexEntry;
use crate::service::statistics::ModelStatistics;
use crate::serving::statistics::{
    Counts, InferBatchStatistics, InferStatistics, StatisticDuration,
};
use crate::tensor::dtype::DataType;

impl From<ModelMetadata> for inference::ModelMetadataResponse {
    fn from(metadata: ModelMetadata) -> Self {
        let ModelMetadata {
            name,
            versions,
            platform,
            inputs,
            outputs,
            properties,
        } = metadata;
        let properties = properties.into_iter();
        Self {
            name,
            versions,
            platform: platform.to_owned(),
            inputs: inputs.into_iter().map(Into::into).collect(),
            outputs: outputs.into_iter().map(Into::into).collect(),
            properties: properties
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        }
    }
}

impl From<TensorMetadata> for model_metadata_response::TensorMetadata {
    fn from(metadata: TensorMetadata) -> Self {
        let TensorMetadata {
            name,
            datatype,
            shape,
        } = metadata;
        Self {
            name,
            datatype: datatype.name().to_owned(),
            shape,
        }
    }
}

impl From<ModelConfig> for inference::ModelConfig {
    fn from(config: ModelConfig) -> Self {
        let ModelConfig {
            name,
            platform,
            backend,
            version_policy,
            max_batch_size,
            inputs,
            outputs,
            instance_group: InstanceGroup { name: group, count },
            dynamic_batching,
            default_model_filename,
            parameters,
        } = config;
        let parameters = parameters.into_iter().map(|(key, string_value)| {
            let value = inference::ModelParameter { string_value };
            (key.to_owned(), value)
        });
        let instances = inference::ModelInstanceGroup {
            name: group,
            count,
            kind: inference::model_instance_group::Kind::Cpu.into(),
        };
        Self {
            name,
            platform: platform.to_owned(),
            version_policy: Some(policy(version_policy)),
            max_batch_size,
            input: inputs.into_iter().map(Into::into).collect(),
            output: outputs.into_iter().map(Into::into).collect(),
            instance_group: vec![instances],
            default_model_filename,
            dynamic_batching: dynamic_batching.map(Into::into),
            parameters: parameters.collect(),
            backend: backend.to_owned(),
            model_transaction_policy: Some(Default::default()),
            response_cache: Some(Default::default()),
        }
    }
}

impl From<DynamicBatching> for inference::ModelDynamicBatching {
    fn from(batching: DynamicBatching) -> Self {
        let DynamicBatching {
            preferred_batch_size,
            max_queue_delay_us,
            priority_levels,
            default_priority_level,
            default_queue_policy,
            priority_queue_policy,
        } = batching;
        let policies = priority_queue_policy.into_iter();
        Self {
            preferred_batch_size,
            max_queue_delay_microseconds: max_queue_delay_us,
            preserve_ordering: false,
            priority_levels,
            default_priority_level,
            default_queue_policy: Some(default_queue_policy.into()),
            priority_queue_policy: policies
                .map(|(level, policy)| (level, policy.into()))
                .collect(),
        }
    }
}

impl From<QueuePolicyConfig> for inference::ModelQueuePolicy {
    fn from(policy: QueuePolicyConfig) -> Self {
        let QueuePolicyConfig {
            timeout_action,
            default_timeout_us,
            allow_timeout_override,
            max_queue_size,
        } = policy;
        let action = match timeout_action {
            TimeoutAction::Reject => model_queue_policy::TimeoutAction::Reject,
            TimeoutAction::Delay => model_queue_policy::TimeoutAction::Delay,
        };
        Self {
            timeout_action: action.into(),
            default_timeout_microseconds: default_timeout_us,
            allow_timeout_override,
            max_queue_size,
        }
    }
}

fn policy(policy: VersionPolicy) -> inference::ModelVersionPolicy {
    let number = |version: &Version| i64::try_from(*version).unwrap_or(i64::MAX);
    let choice = match policy {
        VersionPolicy::Latest(count) => PolicyChoice::Latest(Latest {
            num_versions: u32::try_from(count.get()).unwrap_or(u32::MAX),
        }),
        VersionPolicy::All => PolicyChoice::All(All {}),
        VersionPolicy::Pinned(versions) => PolicyChoice::Specific(Specific {
            versions: versions.iter().map(number).collect(),
        }),
    };
    inference::ModelVersionPolicy {
        policy_choice: Some(choice),
    }
}

impl From<TensorConfig> for inference::ModelInput {
    fn from(config: TensorConfig) -> Self {
        let TensorConfig {
            name,
            datatype,
            dims,
            label_filename: _,
        } = config;
        Self {
            name,
            data_type: wire_type(datatype).into(),
            format: inference::model_input::Format::None.into(),
            dims,
        }
    }
}

impl From<TensorConfig> for inference::ModelOutput {
    fn from(config: TensorConfig) -> Self {
        let TensorConfig {
            name,
            datatype,
            dims,
            label_filename,
        } = config;
        Self {
            name,
            data_type: wire_type(datatype).into(),
            dims,
            label_filename: label_filename.unwrap_or_default(),
        }
    }
}

fn wire_type(datatype: DataType) -> WireType {
    match datatype {
        DataType::Bool => WireType::TypeBool,
        DataType::UInt8 => WireType::TypeUint8,
        DataType::UInt16 => WireType::TypeUint16,
        DataType::UInt32 => WireType::TypeUint32,
        DataType::UInt64 => WireType::TypeUint64,
        DataType::Int8 => WireType::TypeInt8,
        DataType::Int16 => WireType::TypeInt16,
        DataType::Int32 => WireType::TypeInt32,
        DataType::Int64 => WireType::TypeInt64,
        DataType::Fp16 => WireType::TypeFp16,
        DataType::Bf16 => WireType::TypeBf16,
        DataType::Fp32 => WireType::TypeFp32,
        DataType::Fp64 => WireType::TypeFp64,
        DataType::Bytes => WireType::TypeString,
    }
}

impl From<ModelStatistics> for inference::ModelStatistics {
    fn from(statistics: ModelStatistics) -> Self {
        let ModelStatistics {
            name,
            version,
            counts:
                Counts {
                    last_inference_ms,
                    inference_count,
                    execution_count,
                    inference,
                    batches,
                },
        } = statistics;
        Self {
            name,
            version,
            last_inference: last_inference_ms,
            inference_count,
            execution_count,
            inference_stats: Some(inference.into()),
            batch_stats: batches.into_iter().map(Into::into).collect(),
            memory_usage: Vec::new(),
        }
    }
}

impl From<InferStatistics> for inference::InferStatistics {
    fn from(statistics: InferStatistics) -> Self {
        let InferStatistics {
            success,
            fail,
            queue,
            compute_input,
            compute_infer,
            compute_output,
            cache_hit,
            cache_miss,
        } = statistics;
        Self {
            success: Some(success.into()),
            fail: Some(fail.into()),
            queue: Some(queue.into()),
            compute_input: Some(compute_input.into()),
            compute_infer: Some(compute_infer.into()),
            compute_output: Some(compute_output.into()),
            cache_hit: Some(cache_hit.into()),
            cache_miss: Some(cache_miss.into()),
        }
    }
}

impl From<InferBatchStatistics> for inference::InferBatchStatistics {
    fn from(statistics: InferBatchStatistics) -> Self {
        let InferBatchStatistics {
            batch_size,
            compute_input,
            compute_infer,
            compute_output,
        } = statistics;
        Self {
            batch_size,
            compute_input: Some(compute_input.into()),
            compute_infer: Some(compute_infer.into()),
            compute_output: Some(compute_output.into()),
        }
    }
}

impl From<StatisticDuration> for inference::StatisticDuration {
    fn from(StatisticDuration { count, ns }: StatisticDuration) -> Self {
        Self { count, ns }
    }
}

impl From<IndexEntry> for ModelIndex {
    fn from(entry: IndexEntry) -> Self {
        let IndexEntry {
            name,
            version,
            state,
            reason,
        } = entry;
        Self {
            name,
            version,
            state: state.name().to_owned(),
            reason,
        }
    }
}
