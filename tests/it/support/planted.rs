//! Engines with a habit, good or bad, each around an honest one.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use onnxd::engine::{Attempt, Engine, Model, ModelSource, Session};
use onnxd::error::{Error, Result};
use onnxd::tensor::dtype::DataType;
use onnxd::tensor::sample::Sample;
use onnxd::tensor::shape::Shape;
use onnxd::tensor::signature::{CheckedInputs, Signature};
use onnxd::tensor::value::Tensor;

use super::engine::{Gate, quiet_panic};

/// What an engine does otherwise than the one that it wraps.
#[derive(Debug, Clone, Copy)]
pub enum Habit {
    /// Nothing.
    Honest,
    /// Adds one to every element of this output.
    Lies(usize),
    /// Adds one to every element of the second output, where this says so when the model is loaded.
    LiesWhen(fn() -> bool),
    /// Gives every output one dimension more.
    LiesInShape,
    /// Gives one output fewer.
    LeavesOut,
    Refuses,
    PanicsOnLoad,
    PanicsOnRun,
    /// Fails on requests of so many rows.
    FailsOn(usize),
    /// Does not return from loading before the gate opens.
    NeverLoads,
    /// Does not return from a run before the gate opens.
    NeverRuns,
    /// Does not return from a run of so many rows before the gate opens, and is slow at others.
    HangsOn(usize),
    /// Says that loading takes so much memory.
    Needs(u64),
    /// Takes so long for so many rows on so many threads.
    Takes(fn(usize, usize) -> Duration),
}

/// An engine around `inner`, by another name and with a habit of its own.
pub struct Planted {
    pub name: &'static str,
    pub habit: Habit,
    pub inner: Arc<dyn Engine>,
    pub gate: Arc<Gate>,
}

impl Engine for Planted {
    fn name(&self) -> &'static str {
        self.name
    }

    fn memory_needed(&self, _: &ModelSource) -> Option<u64> {
        match self.habit {
            Habit::Needs(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn load(&self, source: &ModelSource, tried: &mut Vec<Attempt>) -> Result<Arc<dyn Model>> {
        match self.habit {
            Habit::Refuses => {
                let reason = format!("{} lacks operator Frobnicate", self.name);
                return Err(Error::unimplemented(reason));
            }
            Habit::PanicsOnLoad => quiet_panic(),
            Habit::NeverLoads => self.gate.pass(),
            _ => {}
        }
        let habit = match self.habit {
            Habit::LiesWhen(lies) if lies() => Habit::Lies(1),
            habit => habit,
        };
        Ok(Arc::new(PlantedModel {
            habit,
            inner: self.inner.load(source, tried)?,
            gate: self.gate.clone(),
        }))
    }
}

struct PlantedModel {
    habit: Habit,
    inner: Arc<dyn Model>,
    gate: Arc<Gate>,
}

impl Model for PlantedModel {
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn session(&self, threads: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(PlantedSession {
            habit: self.habit,
            threads,
            inner: self.inner.session(threads)?,
            gate: self.gate.clone(),
        }))
    }

    fn splits_runs(&self) -> bool {
        matches!(self.habit, Habit::Takes(_))
    }

    fn sample(&self) -> Option<Sample> {
        self.inner.sample()
    }
}

struct PlantedSession {
    habit: Habit,
    threads: usize,
    inner: Box<dyn Session>,
    gate: Arc<Gate>,
}

impl Session for PlantedSession {
    fn run(&mut self, inputs: &CheckedInputs) -> Result<Vec<Tensor>> {
        match self.habit {
            Habit::PanicsOnRun => quiet_panic(),
            Habit::NeverRuns => self.gate.pass(),
            Habit::HangsOn(rows) if inputs.rows() == rows => self.gate.pass(),
            Habit::HangsOn(_) => thread::sleep(Duration::from_millis(10)),
            Habit::FailsOn(rows) if inputs.rows() == rows => {
                return Err(Error::internal(format!("{rows} rows do not fit")));
            }
            Habit::Takes(time) => thread::sleep(time(inputs.rows(), self.threads)),
            _ => {}
        }
        let mut outputs = self.inner.run(inputs)?;
        match self.habit {
            Habit::Lies(at) => outputs[at] = one_more(&outputs[at])?,
            Habit::LiesInShape => {
                let reshaped = outputs.iter().map(one_dimension_more);
                outputs = reshaped.collect::<Result<_>>()?;
            }
            Habit::LeavesOut => drop(outputs.pop()),
            _ => {}
        }
        Ok(outputs)
    }
}

fn one_more(tensor: &Tensor) -> Result<Tensor> {
    let shape = tensor.shape().clone();
    match tensor.dtype() {
        DataType::Fp32 => {
            let elements = tensor.elements::<f32>();
            Tensor::from_vec(shape, elements.iter().map(|value| value + 1.0).collect())
        }
        DataType::Int64 => {
            let elements = tensor.elements::<i64>();
            Tensor::from_vec(shape, elements.iter().map(|value| value + 1).collect())
        }
        dtype => Err(Error::internal(format!("no lie is known for {dtype}"))),
    }
}

fn one_dimension_more(tensor: &Tensor) -> Result<Tensor> {
    let dims = tensor.shape().dims().iter().copied().chain([1]);
    let shape = Shape::new(dims.collect())?;
    Tensor::new(tensor.dtype(), shape, tensor.data().clone())
}
