//! The rten engine: pure Rust, with control flow and dynamic shapes.
//!
//! rten computes in f32, i32, i8 and u8 alone; whatever else a file declares it takes for one of these without a word.
//! `flow` follows the values through a graph and refuses it where that shows (`facts` is what it knows of them, `rank`
//! how many dimensions they have), `known_wrong` has the operators that rten answers wrongly for other reasons,
//! `convert` brings requests and answers over the border, `external` reads weights that are in files of their own.

mod convert;
mod external;
mod facts;
mod flow;
mod known_wrong;
mod rank;

use std::sync::Arc;

use ::rten::{ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView};
use prost::Message;
use rten_tensor::prelude::*;

use self::flow::Condition;

use super::onnx::External;
use super::onnx::proto::ModelProto;
use super::{ADVICE, Attempt, Engine, Model, ModelSource, Session, find_sample, leave_to_requests};
use crate::error::{Error, Result, guarded};
use crate::tensor::sample::Sample;
use crate::tensor::signature::{CheckedInputs, Signature, TensorSpec};
use crate::tensor::value::Tensor;

const EVERY_SHAPE: &str = "one graph for every shape";
/// How often what is in the file itself is in memory while it is loaded.
const TIMES_THE_FILE: usize = 3;

/// Loads models with rten.
#[derive(Debug, Clone, Default)]
pub struct RtenEngine;

impl Engine for RtenEngine {
    fn name(&self) -> &'static str {
        "rten"
    }

    /// Seen with 20 and 200 MB of weights: 3.1 times the file, which is there as the server has read it, as rten takes
    /// it, and as weights, and once what is in files of its own.
    fn memory_needed(&self, source: &ModelSource) -> Option<u64> {
        let proto = decode(source).ok()?;
        let files = external::find(source, &proto).ok()?;
        let apart: usize = files.values().map(External::length).sum();
        let bytes = source
            .bytes
            .len()
            .checked_mul(TIMES_THE_FILE)?
            .checked_add(apart)?;
        u64::try_from(bytes).ok()
    }

    fn load(&self, source: &ModelSource, tried: &mut Vec<Attempt>) -> Result<Arc<dyn Model>> {
        let loaded = load(source);
        let outcome = match &loaded {
            Ok(RtenModel { sample: None, .. }) => Ok("it is left to the requests".to_owned()),
            Ok(RtenModel {
                sample: Some(sample),
                ..
            }) => Ok(format!("runs a made-up request with {sample}")),
            Err(error) => Err(error.chain()),
        };
        let what = EVERY_SHAPE.to_owned();
        tried.push(Attempt { what, outcome });
        Ok(Arc::new(loaded?))
    }
}

fn load(source: &ModelSource) -> Result<RtenModel> {
    let Signature { inputs, outputs } = &source.file()?.signature;
    let mut declared = inputs.iter().chain(outputs);
    declared.try_for_each(convert::refuse_type)?;
    let opset = source.file()?.opsets.get("ai.onnx").copied();
    let proto = decode(source)?;
    let conditions = flow::refuse(&proto, opset.unwrap_or_default())?;
    if !conditions.is_empty() {
        // Not optimised, so that every value of the file is still there to be looked at.
        let plain = RtenModel::read(source, &proto, Optimised::No)?;
        guarded("while it was tried", || plain.refuse_unless(conditions))?;
    }
    RtenModel::read(source, &proto, Optimised::Yes)
}

fn decode(source: &ModelSource) -> Result<ModelProto> {
    ModelProto::decode(source.bytes.clone())
        .map_err(|error| Error::invalid("the file is not an ONNX model").with_source(error))
}

/// Why rten does not do.
fn cannot_run(reason: &str) -> Error {
    Error::unimplemented(format!("rten cannot run this model: {reason}; {ADVICE}"))
}

/// Whether rten puts operators together and reckons out what is constant.
#[derive(Clone, Copy, PartialEq)]
enum Optimised {
    Yes,
    No,
}

struct RtenModel {
    signature: Arc<Signature>,
    /// The weights, which all sessions share.
    model: Arc<::rten::Model>,
    sample: Option<Sample>,
}

impl RtenModel {
    fn read(source: &ModelSource, proto: &ModelProto, optimised: Optimised) -> Result<RtenModel> {
        let read = || {
            let mut options = ModelOptions::with_all_ops();
            options.enable_optimization(optimised == Optimised::Yes);
            for (location, file) in external::find(source, proto)? {
                options.external_data(&location, file.read()?);
            }
            let model = options.load(source.bytes.to_vec());
            model.map_err(|error| cannot_run(&error.to_string()))
        };
        let model = Arc::new(guarded("while it read the model", read)?);
        let signature = Arc::new(source.file()?.signature.clone());
        let places = (model.input_ids().len(), model.output_ids().len());
        if places != (signature.inputs.len(), signature.outputs.len()) {
            return Err(Error::internal(
                "rten reads other inputs or outputs than the file has",
            ));
        }
        let mut read = RtenModel {
            signature,
            model,
            sample: None,
        };
        read.sample = find_sample(&read)?;
        if read.sample.is_none() {
            leave_to_requests(&read).map_err(|error| cannot_run(&error.chain()))?;
        }
        Ok(read)
    }

    /// Fails for the first condition that does not hold, or cannot be seen to hold, in a run of the made-up request.
    fn refuse_unless(&self, conditions: Vec<Condition>) -> Result<()> {
        let session = self.new_session(1);
        for Condition {
            value,
            axis,
            refusal,
        } in conditions
        {
            let (Some(sample), Some(id)) = (self.sample, self.model.find_node(&value)) else {
                return Err(refusal);
            };
            let values = session.values(&sample.inputs(&self.signature)?, &[id])?;
            let rank = values.first().map(|value| value.ndim());
            if rank.and_then(|rank| i64::try_from(rank).ok()) != axis.checked_add(1) {
                return Err(refusal);
            }
        }
        Ok(())
    }

    fn new_session(&self, threads: usize) -> RtenSession {
        let pool = Arc::new(ThreadPool::with_num_threads(threads));
        RtenSession {
            signature: self.signature.clone(),
            model: self.model.clone(),
            options: RunOptions::default().with_thread_pool(Some(pool)),
        }
    }
}

impl Model for RtenModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self, threads: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(self.new_session(threads)))
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
        let outputs = self.values(inputs, self.model.output_ids())?;
        let specs = self.signature.outputs.iter();
        specs
            .zip(outputs)
            .map(|(spec, value)| convert::output(spec, value))
            .collect()
    }

    /// The values that these nodes have for these inputs.
    fn values(&self, inputs: &CheckedInputs, nodes: &[NodeId]) -> Result<Vec<Value>> {
        let named = self.signature.inputs.iter().zip(inputs.tensors());
        let value = |((spec, tensor), id): ((&TensorSpec, &Tensor), &NodeId)| {
            Ok((*id, ValueOrView::from(convert::input(spec, tensor)?)))
        };
        let given = named.zip(self.model.input_ids()).map(value);
        let given = given.collect::<Result<_>>()?;
        let ran = self.model.run(given, nodes, Some(self.options.clone()));
        ran.map_err(|error| {
            Error::internal(format!("rten failed: {error}")).with_source(error.to_string())
        })
    }
}
