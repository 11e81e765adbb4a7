//! How a model runs: the contract that every engine keeps, so that nothing above knows which one serves.
//!
//! An engine may panic; whoever calls it stands behind `catch_unwind`. A [`Model`] is shared by all workers, a
//! [`Session`] belongs to one.

pub mod onnx;
pub mod tract;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::tensor::sample::Sample;
use crate::tensor::signature::{CheckedInputs, Signature};
use crate::tensor::value::Tensor;

/// The stack of a thread that loads or runs models: graphs can be deep, plans are made while a model runs as well, and
/// what is not used costs nothing.
pub const STACK_BYTES: usize = 64 << 20;

/// Turns model files into models.
pub trait Engine: Send + Sync {
    /// The engine's name in logs, metrics and metadata.
    fn name(&self) -> &'static str;

    /// Loads a model; the error says which operator or dimension stands in the way. Every way of running the model
    /// that was tried is added to `tried`, whatever came of it.
    fn load(&self, source: &ModelSource, tried: &mut Vec<Attempt>) -> Result<Arc<dyn Model>>;
}

/// Where a model comes from.
#[derive(Debug, Clone)]
pub struct ModelSource {
    /// The whole ONNX file.
    pub bytes: Bytes,
    /// The folder that its external data may be in.
    pub folder: Option<PathBuf>,
}

impl ModelSource {
    /// Reads an ONNX file.
    pub fn read(path: &Path) -> Result<ModelSource> {
        let cannot =
            |error| Error::not_found(format!("cannot read {}", path.display())).with_source(error);
        // A device or a pipe might never end.
        if !path.metadata().map_err(cannot)?.is_file() {
            return Err(Error::not_found(format!(
                "{} is not a file",
                path.display()
            )));
        }
        let bytes = std::fs::read(path).map_err(cannot)?;
        Ok(ModelSource {
            bytes: bytes.into(),
            folder: path.parent().map(Path::to_owned),
        })
    }
}

/// One way of running a model that was tried while it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was tried, such as `one plan for every shape`.
    pub what: String,
    /// What was seen, or why it does not do.
    pub outcome: Result<String, String>,
}

/// A loaded model.
pub trait Model: Send + Sync {
    /// What the model takes and gives, as its file declares it.
    fn signature(&self) -> &Signature;

    /// What one worker needs to run the model.
    fn session(&self) -> Result<Box<dyn Session>>;

    /// Inputs that the model was seen to run with while it was loaded, if there were any.
    fn sample(&self) -> Option<Sample> {
        None
    }

    /// Whether a run of these inputs begins at once, without preparing something for their shapes first.
    fn is_prepared(&self, _inputs: &CheckedInputs) -> bool {
        true
    }
}

/// A model's state on one worker thread.
pub trait Session: Send {
    /// Runs the model once; the outputs come in the signature's order.
    fn run(&mut self, inputs: &CheckedInputs) -> Result<Vec<Tensor>>;
}
