//! An engine for tests: a model file is a small JSON script that says what the model takes and how it behaves.
//!
//! ```json
//! {"inputs": [["x", "INT64", [-1]]], "on": {"1": "block", "2": "panic", "3": "fail"}, "load": "block"}
//! ```
//!
//! `short` loses the last row of every output, and `takes_ms` is how long each run takes.
//!
//! A model answers every input `x` with the same tensor as `x_out`, or with zeros where the script lists `outputs`.
//! What it does on a run is picked by the first element of each row of its first input, if that is an `INT64`: rows of
//! several requests may share a run.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use onnxd::engine::{Attempt, Engine, Model, ModelSource, Session};
use onnxd::error::{Error, Result};
use onnxd::tensor::batch;
use onnxd::tensor::dtype::DataType;
use onnxd::tensor::sample::{Integers, Sample};
use onnxd::tensor::shape::Shape;
use onnxd::tensor::signature::{CheckedInputs, Dim, Signature, TensorSpec};
use onnxd::tensor::value::Tensor;
use serde_json::Value;

use super::PATIENCE;

/// What a failing run says to the operator, and to nobody else.
pub const SECRET_CAUSE: &str = "weights of /secret/path are corrupt";

/// What the requests begin with that the server makes up while it loads a model; no script heeds it.
const MADE_UP: i64 = 0;

/// Holds runs and loads up while it is closed, and remembers what ran.
#[derive(Default)]
pub struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    open: bool,
    waiting: usize,
    ran: Vec<i64>,
}

impl Gate {
    /// Lets everything through, now and from now on.
    pub fn open(&self) {
        self.lock().open = true;
        self.changed.notify_all();
    }

    /// Holds up what comes from now on.
    pub fn close(&self) {
        self.lock().open = false;
    }

    /// Waits until exactly `count` runs or loads are held up.
    #[track_caller]
    pub fn wait_for_blocked(&self, count: usize) {
        let waiting = self
            .changed
            .wait_timeout_while(self.lock(), PATIENCE, |state| state.waiting != count);
        let (state, timeout) = waiting.expect("no test panics inside the gate");
        assert!(
            !timeout.timed_out(),
            "{} are blocked, not {count}",
            state.waiting
        );
    }

    /// The first elements of the rows that ran to their end, in order.
    pub fn ran(&self) -> Vec<i64> {
        self.lock().ran.clone()
    }

    /// Waits until the gate opens.
    pub fn pass(&self) {
        let mut state = self.lock();
        state.waiting += 1;
        self.changed.notify_all();
        let passed = self.changed.wait_while(state, |state| !state.open);
        passed.expect("no test panics inside the gate").waiting -= 1;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().expect("no test panics inside the gate")
    }
}

/// Loads scripts.
pub struct ScriptEngine {
    pub gate: Arc<Gate>,
}

impl Engine for ScriptEngine {
    fn name(&self) -> &'static str {
        "script"
    }

    fn load(&self, source: &ModelSource, _: &mut Vec<Attempt>) -> Result<Arc<dyn Model>> {
        let script: Value = serde_json::from_slice(&source.bytes)
            .map_err(|error| Error::invalid("the file is not a script").with_source(error))?;
        match script["load"].as_str() {
            Some("block") => self.gate.pass(),
            Some("panic") => quiet_panic(),
            Some("unimplemented") => {
                return Err(Error::unimplemented("operator Frobnicate is not supported"));
            }
            Some("fail") => return Err(Error::internal("the graph has a cycle")),
            _ => {}
        }
        Ok(Arc::new(ScriptModel {
            signature: signature(&script),
            zeros: script.get("outputs").is_some(),
            script: Arc::new(script),
            gate: self.gate.clone(),
        }))
    }
}

fn signature(script: &Value) -> Signature {
    let inputs = specs(&script["inputs"], "");
    let outputs = match script.get("outputs") {
        Some(outputs) => specs(outputs, ""),
        None => specs(&script["inputs"], "_out"),
    };
    Signature { inputs, outputs }
}

fn specs(list: &Value, suffix: &str) -> Vec<TensorSpec> {
    let spec = |item: &Value| TensorSpec {
        name: format!("{}{suffix}", item[0].as_str().expect("a name")),
        dtype: DataType::from_name(item[1].as_str().expect("a data type")).expect("a data type"),
        dims: item[2]
            .as_array()
            .map(|dims| dims.iter().map(dim).collect()),
        columns: item[3]
            .as_array()
            .map(|names| names.iter().map(text).collect()),
    };
    list.as_array()
        .expect("a list of tensors")
        .iter()
        .map(spec)
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a name").to_owned()
}

fn dim(value: &Value) -> Dim {
    match value.as_u64() {
        Some(length) => Dim::Fixed(length as usize),
        None => Dim::Dynamic(value.as_str().map(str::to_owned)),
    }
}

#[derive(Clone)]
struct ScriptModel {
    signature: Signature,
    zeros: bool,
    script: Arc<Value>,
    gate: Arc<Gate>,
}

impl Model for ScriptModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self, _threads: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(self.clone()))
    }

    /// Its whole numbers count from [`MADE_UP`] on.
    fn sample(&self) -> Option<Sample> {
        Some(Sample {
            integers: Integers::Count,
            ..Sample::ZEROS
        })
    }
}

impl Session for ScriptModel {
    fn run(&mut self, inputs: &CheckedInputs) -> Result<Vec<Tensor>> {
        let first = inputs
            .tensors()
            .first()
            .filter(|tensor| tensor.dtype() == DataType::Int64);
        let keys: Vec<i64> = first.map(keys).unwrap_or_default();
        if let Some(milliseconds) = self.script["takes_ms"].as_u64() {
            thread::sleep(Duration::from_millis(milliseconds));
        }
        let mut loses_a_row = false;
        let mood = |key: &i64| self.script["on"][key.to_string()].as_str();
        match keys.iter().find_map(mood) {
            Some("block") => self.gate.pass(),
            Some("panic") => quiet_panic(),
            Some("short") => loses_a_row = true,
            Some("fail") => return Err(Error::internal("session failed").with_source(SECRET_CAUSE)),
            _ => {}
        }
        self.gate.lock().ran.extend(keys);
        match self.zeros {
            true => self.signature.outputs.iter().map(zeros).collect(),
            false if loses_a_row => inputs.tensors().iter().map(without_last_row).collect(),
            false => Ok(inputs.tensors().to_vec()),
        }
    }
}

/// The first element of each row; none of a request that the server made up.
fn keys(tensor: &Tensor) -> Vec<i64> {
    let elements = tensor.elements::<i64>();
    let rows = tensor.shape().dims().first().copied().unwrap_or(1);
    let keys = elements.chunks((elements.len() / rows.max(1)).max(1));
    let keys: Vec<_> = keys.map(|row| row[0]).collect();
    match keys.first() {
        Some(&MADE_UP) => Vec::new(),
        _ => keys,
    }
}

fn without_last_row(tensor: &Tensor) -> Result<Tensor> {
    let rows = batch::rows(tensor).expect("it has rows");
    let mut parts = batch::split(tensor, &[rows - 1, 1])?;
    Ok(parts.swap_remove(0))
}

fn zeros(spec: &TensorSpec) -> Result<Tensor> {
    let length = |dim: &Dim| match dim {
        Dim::Fixed(length) => *length,
        Dim::Dynamic(_) => 1,
    };
    let shape = Shape::new(spec.dims.iter().flatten().map(length).collect())?;
    let bytes = shape.elements() * spec.dtype.width().expect("zeros are of fixed width");
    Tensor::new(spec.dtype, shape, vec![0; bytes].into())
}

/// A panic that does not write to the test's output.
pub fn quiet_panic() {
    std::panic::resume_unwind(Box::new("as the script says"))
}
