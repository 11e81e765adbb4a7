//! The rten engine: pure Rust, with control flow and dynamic shapes.
//!
//! rten computes in f32, i32, i8 and u8 alone; whatever else a file declares it takes for one of these without a word.
//! `flow` follows the values through a graph and refuses it where that shows (`facts` is what it knows of them),
//! `known_wrong` has the operators that rten answers wrongly for other reasons, `convert` brings requests and answers
//! over the border, `external` reads weights that are in files of their own.

mod convert;
mod external;
mod facts;
mod flow;
mod known_wrong;

use std::sync::Arc;

use ::rten::{ModelOptions, NodeId, RunOptions, ThreadPool, ValueOrView};

use super::{Attempt, Engine, Model, ModelSource, Session, find_sample};
use crate::error::{Error, Result, guarded};
use crate::tensor::sample::Sample;
use crate::tensor::signature::{CheckedInputs, Signature, TensorSpec};
use crate::tensor::value::Tensor;

const EVERY_SHAPE: &str = "one graph for every shape";
const ADVICE: &str = "docs/models.md says what loads and what to do about the rest";

/// Loads models with rten.
#[derive(Debug, Clone, Default)]
pub struct RtenEngine;

impl Engine for RtenEngine {
    fn name(&self) -> &'static str {
        "rten"
    }

    fn load(&self, source: &ModelSource, tried: &mut Vec<Attempt>) -> Result<Arc<dyn Model>> {
        let loaded = load(source);
        let outcome = match &loaded {
            Ok(RtenModel { sample: None, .. }) => Ok("it is left to the requests".to_owned()),
            Ok(RtenModel {
                sample: Some(sample),
                ..
            }) => Ok(format!(
                "runs a made-up request with {} rows and every other dynamic dimension {}",
                sample.rows, sample.free
            )),
            Err(error) => Err(error.chain()),
        };
        let what = EVERY_SHAPE.to_owned();
        tried.push(Attempt { what, outcome });
        Ok(Arc::new(loaded?))
    }
}

fn load(source: &ModelSource) -> Result<RtenModel> {
    let signature = source.file.signature.clone();
    signature
        .inputs
        .iter()
        .chain(&signature.outputs)
        .try_for_each(convert::refuse_type)?;
    flow::refuse(source)?;
    let read = || {
        let mut options = ModelOptions::with_all_ops();
        for (location, data) in external::read(source)? {
            options.external_data(&location, data);
        }
        options
            .load(source.bytes.to_vec())
            .map_err(|error| cannot_run(&error.to_string()))
    };
    let model = guarded("while it read the model", read)?;
    let model = Arc::new(model);
    let shares = (model.input_ids().len(), model.output_ids().len());
    if shares != (signature.inputs.len(), signature.outputs.len()) {
        return Err(Error::internal(
            "rten reads other inputs or outputs than the file has",
        ));
    }
    let mut loaded = RtenModel {
        signature: Arc::new(signature),
        model,
        sample: None,
    };
    loaded.sample = find_sample(&loaded);
    if loaded.sample.is_none() {
        loaded.leave_to_requests()?;
    }
    Ok(loaded)
}

/// Why rten does not do.
fn cannot_run(reason: &str) -> Error {
    Error::unimplemented(format!("rten cannot run this model: {reason}; {ADVICE}"))
}

struct RtenModel {
    signature: Arc<Signature>,
    /// The weights, which all sessions share.
    model: Arc<::rten::Model>,
    sample: Option<Sample>,
}

impl RtenModel {
    /// Fails unless requests may know what made-up ones do not: then the model may run all the same.
    fn leave_to_requests(&self) -> Result<()> {
        let Ok(inputs) = Sample::ZEROS.inputs(&self.signature) else {
            // Too large to be made up.
            return Ok(());
        };
        if self.signature.inputs.iter().any(TensorSpec::is_open) {
            return Ok(());
        }
        let ran = guarded("while it was tried", || self.session(1)?.run(&inputs));
        ran.map(|_| ()).map_err(|error| cannot_run(&error.chain()))
    }
}

impl Model for RtenModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self, threads: usize) -> Result<Box<dyn Session>> {
        let pool = Arc::new(ThreadPool::with_num_threads(threads));
        Ok(Box::new(RtenSession {
            signature: self.signature.clone(),
            model: self.model.clone(),
            options: RunOptions::default().with_thread_pool(Some(pool)),
        }))
    }

    fn splits_runs(&self) -> bool {
        true
    }

    fn sample(&self) -> Option<Sample> {
        self.sample
    }
}

struct RtenSession {
    signature: Arc<Signature>,
    model: Arc<::rten::Model>,
    options: RunOptions,
}

impl Session for RtenSession {
    fn run(&mut self, inputs: &CheckedInputs) -> Result<Vec<Tensor>> {
        guarded("while it ran", || self.run_unguarded(inputs))
    }
}

impl RtenSession {
    fn run_unguarded(&self, inputs: &CheckedInputs) -> Result<Vec<Tensor>> {
        let named = self.signature.inputs.iter().zip(inputs.tensors());
        let value = |((spec, tensor), id): ((&TensorSpec, &Tensor), &NodeId)| {
            Ok((*id, ValueOrView::from(convert::input(spec, tensor)?)))
        };
        let values = named
            .zip(self.model.input_ids())
            .map(value)
            .collect::<Result<_>>()?;
        let outputs = self
            .model
            .run(values, self.model.output_ids(), Some(self.options.clone()));
        let outputs = outputs
            .map_err(|error| Error::internal("rten failed").with_source(error.to_string()))?;
        let specs = self.signature.outputs.iter();
        specs
            .zip(outputs)
            .map(|(spec, value)| convert::output(spec, value))
            .collect()
    }
}
