//! Runs a plan: request in, tract's tensors, request out.

use tract_onnx::prelude::*;

use super::convert;
use super::graph::Plan;
use crate::error::{Error, Result, guarded};
use crate::tensor::signature::{CheckedInputs, Signature};
use crate::tensor::value::Tensor as WireTensor;

/// Runs a plan behind a guard, for trying it out.
pub fn once(plan: &Plan, signature: &Signature, inputs: &CheckedInputs) -> Result<()> {
    guarded("while it was tried", || {
        run(plan, signature, inputs).map(|_| ())
    })
}

/// Runs a plan.
pub fn run(plan: &Plan, signature: &Signature, inputs: &CheckedInputs) -> Result<Vec<WireTensor>> {
    let tensor = |place: &usize| Ok(convert::input(&inputs.tensors()[*place])?.into_tvalue());
    let inputs = plan
        .takes
        .iter()
        .map(tensor)
        .collect::<Result<TVec<TValue>>>()?;
    // In a state of its own: a state that is used again lets a recurrent layer go on from where the request before,
    // which may be somebody else's, has left it.
    let told = |error: TractError| {
        let reason = plan.operators.reason(&error);
        failed(error.context(reason))
    };
    let outputs = plan.runnable.run(inputs).map_err(told)?;
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
    Error::internal(format!("tract failed: {error}")).with_source(format!("{error:#}"))
}
