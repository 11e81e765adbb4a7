//! What the server and its models are, for whoever wants to send requests.

use super::Service;
use crate::error::Result;
use crate::serving::deployment::PLATFORM;
use crate::serving::registry::{ModelEntry, Target};
use crate::tensor::dtype::DataType;
use crate::tensor::signature::TensorSpec;

/// The protocol's extensions that work here, on every face; a client may rely on each that is listed.
const EXTENSIONS: &[&str] = &[
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
];

/// What a model takes and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelMetadata {
    pub name: String,
    /// The versions that are served, oldest first.
    pub versions: Vec<String>,
    pub platform: &'static str,
    pub inputs: Vec<TensorMetadata>,
    pub outputs: Vec<TensorMetadata>,
    /// What else there is to tell, by name.
    pub properties: Vec<(&'static str, String)>,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMetadata {
    pub name: String,
    pub datatype: DataType,
    /// -1 for what varies.
    pub shape: Vec<i64>,
}

impl TensorMetadata {
    fn new(spec: &TensorSpec) -> TensorMetadata {
        TensorMetadata {
            name: spec.name.clone(),
            datatype: spec.dtype,
            shape: spec.wire_shape(),
        }
    }
}

impl Service {
    /// The protocol's extensions that work here.
    pub fn extensions(&self) -> &'static [&'static str] {
        EXTENSIONS
    }

    /// What the version that `target` means takes and gives.
    pub fn metadata(&self, target: &Target) -> Result<ModelMetadata> {
        let deployment = self.deployment(target)?;
        let signature = deployment.signature();
        let tensors = |specs: &[TensorSpec]| specs.iter().map(TensorMetadata::new).collect();
        let table = self.registry.table();
        let entry = table.models.get(&deployment.facts.model);
        let labels = entry.and_then(ModelEntry::labels_in_words);
        let labels = labels.map(|labels| ("version_labels", labels));
        let engine = [
            ("engine", deployment.loaded.engine.to_owned()),
            ("engine_reason", deployment.why.clone()),
        ];
        Ok(ModelMetadata {
            name: deployment.facts.model.clone(),
            versions: self.served_versions(&deployment.facts.model)?,
            platform: PLATFORM,
            inputs: tensors(&signature.inputs),
            outputs: tensors(&signature.outputs),
            properties: engine.into_iter().chain(labels).collect(),
        })
    }
}
