//! One live version of a model: everything that a request to it needs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::ComputeBudget;
use super::joining;
use super::lane::{Completed, Lane, LaneConfig};
use super::trial::Trial;
use crate::engine::{Attempt, Engine, Model, ModelSource};
use crate::error::{Error, Result};
use crate::repository::{ModelFiles, Version};
use crate::telemetry::metrics::{Loaded, Metrics, ModelMetrics};
use crate::tensor::shape::Shape;
use crate::tensor::signature::{CheckedInputs, Signature};
use crate::tensor::value::{NamedTensor, Tensor};

/// What metadata calls the format of our models.
pub const PLATFORM: &str = "onnx_onnxv1";

/// A model's version that takes traffic.
pub struct Deployment {
    pub model: String,
    /// The canonical version, such as `2`.
    pub version: String,
    pub loaded: Loaded,
    pub metrics: ModelMetrics,
    signature: Signature,
    /// Why requests cannot be joined, if they cannot.
    joins: Result<(), String>,
    class_names: Option<ClassNames>,
    lane: Lane,
}

/// The names of an output's classes.
struct ClassNames {
    output: String,
    names: Vec<String>,
}

/// What all deployments share.
#[derive(Clone)]
pub struct Machinery {
    pub engine: Arc<dyn Engine>,
    pub metrics: Metrics,
    pub budget: Arc<ComputeBudget>,
    /// Rows that may wait for a model that does not say otherwise.
    pub queue_rows: usize,
    /// How long loading one version may take.
    pub load_timeout: Duration,
    /// Loads each version in a process of its own first.
    pub trial: Option<Trial>,
}

impl Deployment {
    /// Loads one version and starts its workers.
    pub fn load(
        machinery: &Machinery,
        model: &str,
        version: Version,
        files: &ModelFiles,
    ) -> Result<Deployment> {
        let started = Instant::now();
        let path = files
            .versions
            .get(&version)
            .ok_or_else(|| Error::not_found(format!("there is no version {version}")))?;
        let source = ModelSource::read(path)?;
        let size = source.bytes.len();
        let loaded = load(machinery, model, version, &source)?;
        drop(source);
        let signature = loaded.signature().clone();
        let class_names = ClassNames::new(files, &signature)?;
        let joins = joining::prove(&*loaded);
        if let Err(reason) = &joins {
            tracing::debug!(
                model,
                version,
                reason,
                "its requests cannot be joined: each counts as one row"
            );
        }
        let version = version.to_string();
        let metrics = machinery.metrics.model(model, &version);
        let lane = Lane::start(LaneConfig {
            name: format!("infer-{model}"),
            model: loaded,
            queue_rows: files
                .manifest
                .queue_rows
                .map_or(machinery.queue_rows, Into::into),
            metrics: metrics.clone(),
            budget: machinery.budget.clone(),
        })?;
        let engine = machinery.engine.name();
        let loaded = Loaded {
            engine,
            platform: PLATFORM,
            took: started.elapsed(),
            bytes: size,
        };
        Ok(Deployment {
            model: model.to_owned(),
            version,
            loaded,
            metrics,
            signature,
            joins,
            class_names,
            lane,
        })
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Runs one request.
    pub async fn run(&self, inputs: CheckedInputs, deadline: Instant) -> Result<Completed> {
        let inputs = if self.joins.is_ok() {
            inputs
        } else {
            inputs.as_one_row()
        };
        self.lane.run(inputs, deadline).await
    }

    /// The names of the classes in `outputs`, as one more output called `<output>_name`, where the owner named them.
    pub fn class_names(&self, outputs: &[NamedTensor]) -> Option<NamedTensor> {
        self.class_names.as_ref()?.lookup(outputs)
    }
}

/// Loads a model with the engine, and logs every way of running it that was tried.
fn load(
    machinery: &Machinery,
    model: &str,
    version: Version,
    source: &ModelSource,
) -> Result<Arc<dyn Model>> {
    let mut tried = Vec::new();
    let loaded = machinery.engine.load(source, &mut tried);
    let engine = machinery.engine.name();
    for Attempt { what, outcome } in &tried {
        match outcome {
            Ok(seen) => tracing::info!(model, version, engine, what, seen, "tried"),
            Err(reason) => tracing::info!(
                model,
                version,
                engine,
                what,
                reason,
                "tried without success"
            ),
        }
    }
    loaded
}

impl ClassNames {
    fn new(files: &ModelFiles, signature: &Signature) -> Result<Option<ClassNames>> {
        let Some(labels) = &files.manifest.labels else {
            return Ok(None);
        };
        let output = signature.output(&labels.output)?;
        if !output.dtype.is_integer() {
            let (name, dtype) = (&output.name, output.dtype);
            return Err(Error::invalid(format!(
                "labels need an output of whole numbers, and '{name}' is {dtype}"
            )));
        }
        Ok(Some(ClassNames {
            output: labels.output.clone(),
            names: files.labels.clone(),
        }))
    }

    fn lookup(&self, outputs: &[NamedTensor]) -> Option<NamedTensor> {
        let output = outputs.iter().find(|output| output.name == self.output)?;
        let classes = whole_numbers(&output.tensor)?;
        let name = |class: i64| {
            usize::try_from(class)
                .ok()
                .and_then(|class| self.names.get(class))
        };
        // A class without a name keeps its number, so that the answer stays useful.
        let names = classes.map(|class| name(class).cloned().unwrap_or_else(|| class.to_string()));
        let shape: Shape = output.tensor.shape().clone();
        let tensor = Tensor::from_strings(shape, names).ok()?;
        Some(NamedTensor {
            name: format!("{}_name", self.output),
            tensor,
        })
    }
}

fn whole_numbers(tensor: &Tensor) -> Option<Box<dyn Iterator<Item = i64>>> {
    use crate::tensor::dtype::DataType;
    use crate::tensor::value::Element;

    fn of<T: Element + TryInto<i64>>(tensor: &Tensor) -> Box<dyn Iterator<Item = i64>> {
        let elements = tensor.elements::<T>().into_owned();
        Box::new(
            elements
                .into_iter()
                .map(|element| element.try_into().unwrap_or(i64::MAX)),
        )
    }

    Some(match tensor.dtype() {
        DataType::UInt8 => of::<u8>(tensor),
        DataType::UInt16 => of::<u16>(tensor),
        DataType::UInt32 => of::<u32>(tensor),
        DataType::UInt64 => of::<u64>(tensor),
        DataType::Int8 => of::<i8>(tensor),
        DataType::Int16 => of::<i16>(tensor),
        DataType::Int32 => of::<i32>(tensor),
        DataType::Int64 => of::<i64>(tensor),
        _ => return None,
    })
}
