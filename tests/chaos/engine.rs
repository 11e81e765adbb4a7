//! Engines whose models answer what only they can: `y = a·x + b`, with an `a` and a `b` of each file's own.
//!
//! A file is JSON, `{"generation": 7, "load": "fail", "lies": true}`; `generation` makes its function and comes back as an
//! output, one element a row. A run takes `takes_us`, however many rows it has, so that it pays to share runs.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use onnxd::engine::{Attempt, Engine, Model, ModelSource, Session};
use onnxd::error::{Error, Result};
use onnxd::tensor::dtype::DataType;
use onnxd::tensor::sample::{Integers, Sample};
use onnxd::tensor::signature::{CheckedInputs, Dim, Signature, TensorSpec};
use onnxd::tensor::value::Tensor;
use serde_json::Value;

use super::random::Random;

/// What clients send is larger than this; what the server makes up is not, and meets no faults.
pub const LEAST_SENT: i64 = 1 << 40;

/// A row that the engine never survives.
pub fn is_poison(x: i64) -> bool {
    x.rem_euclid(1000) == 13
}

/// What the model of this generation answers to `x`.
pub fn function(generation: i64, x: i64) -> i64 {
    let (a, b) = (2 * generation + 1, generation * 1_000_003);
    x.wrapping_mul(a).wrapping_add(b)
}

/// One of two engines, which differ in whether they lie where the file says so.
pub struct Affine {
    pub name: &'static str,
    pub is_liar: bool,
    pub faults: Arc<Mutex<Random>>,
}

impl Engine for Affine {
    fn name(&self) -> &'static str {
        self.name
    }

    fn load(&self, source: &ModelSource, _: &mut Vec<Attempt>) -> Result<Arc<dyn Model>> {
        let file: Value = serde_json::from_slice(&source.bytes)
            .map_err(|error| Error::invalid("the file is cut short").with_source(error))?;
        match file["load"].as_str() {
            Some("fail") => {
                return Err(Error::unimplemented("operator Frobnicate is not supported"));
            }
            Some("panic") => quiet_panic(),
            Some("slow") => thread::sleep(Duration::from_millis(100)),
            _ => {}
        }
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            dtype: DataType::Int64,
            dims: Some(vec![Dim::Dynamic(Some("rows".to_owned()))]),
            columns: None,
        };
        let lies = self.is_liar && file["lies"] == true;
        Ok(Arc::new(AffineModel {
            signature: Signature {
                inputs: vec![spec("x")],
                outputs: vec![spec("y"), spec("generation")],
            },
            generation: file["generation"]
                .as_i64()
                .expect("the file has a generation"),
            lie: i64::from(lies),
            takes: Duration::from_micros(file["takes_us"].as_u64().unwrap_or(0)),
            faults: self.faults.clone(),
        }))
    }
}

#[derive(Clone)]
struct AffineModel {
    signature: Signature,
    generation: i64,
    /// What it adds to every answer.
    lie: i64,
    takes: Duration,
    faults: Arc<Mutex<Random>>,
}

impl Model for AffineModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self, _threads: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(self.clone()))
    }

    fn sample(&self) -> Option<Sample> {
        Some(Sample {
            integers: Integers::Bytes,
            ..Sample::ZEROS
        })
    }
}

impl Session for AffineModel {
    fn run(&mut self, inputs: &CheckedInputs) -> Result<Vec<Tensor>> {
        let x = &inputs.tensors()[0];
        let rows = x.elements::<i64>();
        if !self.takes.is_zero() {
            thread::sleep(self.takes);
        }
        if rows.iter().any(|x| *x >= LEAST_SENT) {
            self.meet_a_fault()?;
        }
        if rows.iter().any(|x| *x >= LEAST_SENT && is_poison(*x)) {
            quiet_panic();
        }
        let y = rows
            .iter()
            .map(|x| function(self.generation, *x).wrapping_add(self.lie));
        let of = |elements| Tensor::from_vec(x.shape().clone(), elements);
        Ok(vec![
            of(y.collect())?,
            of(vec![self.generation; rows.len()])?,
        ])
    }
}

impl AffineModel {
    fn meet_a_fault(&self) -> Result<()> {
        let chance = self.faults.lock().map_or(0, |mut faults| faults.below(200));
        match chance {
            0 | 1 => quiet_panic(),
            2 | 3 => Err(Error::internal("the session broke")),
            4..20 => {
                thread::sleep(Duration::from_millis(chance));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A panic that does not write to the test's output.
fn quiet_panic() -> ! {
    std::panic::resume_unwind(Box::new("as the chaos has it"))
}
