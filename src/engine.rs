//! How a model runs: the contract that every engine keeps, so that nothing above knows which one serves.
//!
//! An engine may panic; whoever calls it stands behind `catch_unwind`. A [`Model`] is shared by all workers, a
//! [`Session`] belongs to one.

pub mod onnx;
pub mod tract;

use std::sync::Arc;

use bytes::Bytes;

use crate::error::Result;
use crate::tensor::signature::{CheckedInputs, Signature};
use crate::tensor::value::Tensor;

/// Turns model files into models.
pub trait Engine: Send + Sync {
    /// The engine's name in logs, metrics and metadata.
    fn name(&self) -> &'static str;

    /// Loads a model; the error says which operator or dimension stands in the way.
    fn load(&self, source: &ModelSource) -> Result<Arc<dyn Model>>;
}

/// Where a model comes from.
#[derive(Debug, Clone)]
pub struct ModelSource {
    /// The whole ONNX file.
    pub bytes: Bytes,
}

/// A loaded model.
pub trait Model: Send + Sync {
    /// What the model takes and gives, as its file declares it.
    fn signature(&self) -> &Signature;

    /// What one worker needs to run the model.
    fn session(&self) -> Result<Box<dyn Session>>;
}

/// A model's state on one worker thread.
pub trait Session: Send {
    /// Runs the model once; the outputs come in the signature's order.
    fn run(&mut self, inputs: &CheckedInputs) -> Result<Vec<Tensor>>;
}
