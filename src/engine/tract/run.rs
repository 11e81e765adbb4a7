//! Runs a plan: request in, tract's tensors, request out.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tract_onnx::prelude::*;

use super::convert;
use super::graph::Plan;
use super::message;
use crate::error::{Error, Result, panic_text};
use crate::tensor::signature::{CheckedInputs, Signature};
use crate::tensor::value::Tensor as WireTensor;

/// Runs a plan in a state of its own, for trying it out.
pub fn once(plan: &Plan, signature: &Signature, inputs: &CheckedInputs) -> Result<()> {
    let run = || {
        let mut state = plan.runnable.spawn().map_err(failed)?;
        run(&mut state, &plan.takes, signature, inputs).map(|_| ())
    };
    let panicked = |panic: Box<dyn Any + Send>| {
        Err(Error::internal(format!(
            "tract panicked: {}",
            panic_text(&*panic)
        )))
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(panicked)
}

/// Runs a plan whose inputs are those that it `takes` of the signature's.
pub fn run(
    state: &mut TypedSimpleState,
    takes: &[usize],
    signature: &Signature,
    inputs: &CheckedInputs,
) -> Result<Vec<WireTensor>> {
    let inputs = takes
        .iter()
        .map(|place| Ok(convert::input(&inputs.tensors()[*place])?.into_tvalue()));
    let outputs = state
        .run(inputs.collect::<Result<TVec<TValue>>>()?)
        .map_err(failed)?;
    let (declared, got) = (signature.outputs.len(), outputs.len());
    if declared != got {
        return Err(Error::internal(format!(
            "tract gave {got} outputs instead of {declared}"
        )));
    }
    let specs = signature.outputs.iter();
    specs
        .zip(outputs)
        .map(|(spec, output)| convert::output(spec, output))
        .collect()
}

/// An error of tract while it runs.
pub fn failed(error: TractError) -> Error {
    Error::internal(format!("tract failed: {}", message::reason(&error)))
        .with_source(format!("{error:#}"))
}
