//! Whether requests may be joined into one run: proven with two different requests, never guessed.
//!
//! A model whose every first dimension is dynamic may still mix its rows, as a matrix product of two inputs does.

use crate::engine::{Model, Session};
use crate::error::{Result, guarded};
use crate::tensor::difference;
use crate::tensor::sample::Sample;
use crate::tensor::shape::Shape;
use crate::tensor::signature::CheckedInputs;
use crate::tensor::value::{NamedTensor, Tensor};

/// Runs two made-up requests apart and joined and compares the answers; says why not, where they may not be joined.
pub fn prove(model: &dyn Model) -> Result<(), String> {
    if !model.signature().has_rows() {
        return Err("the first dimension of some input or output is fixed".to_owned());
    }
    let sample = model
        .sample()
        .ok_or("no made-up request runs, so nothing could be proven")?;
    let compare = || compare(model, sample);
    guarded("while it was tried", compare).map_err(|error| error.chain())?
}

fn compare(model: &dyn Model, sample: Sample) -> Result<Result<(), String>> {
    let signature = model.signature();
    let one = Sample {
        rows: 1,
        seed: 11,
        ..sample
    }
    .inputs(signature)?;
    let two = Sample {
        rows: 2,
        seed: 23,
        ..sample
    }
    .inputs(signature)?;
    let pairs = one
        .tensors()
        .iter()
        .zip(two.tensors())
        .zip(&signature.inputs);
    let both = pairs.map(|((first, second), spec)| {
        let tensor = join(first, second)?;
        Ok(NamedTensor {
            name: spec.name.clone(),
            tensor,
        })
    });
    let both = signature.check(both.collect::<Result<_>>()?)?;
    let mut session = model.session(1)?;
    let mut run = |inputs: &CheckedInputs| Session::run(&mut *session, inputs);
    let (apart, joined) = ((run(&one)?, run(&two)?), run(&both)?);
    for (at, spec) in signature.outputs.iter().enumerate() {
        let (first, second) = (&apart.0[at], &apart.1[at]);
        let same =
            rest(first) == rest(second) && difference::agree(&joined[at], &join(first, second)?);
        if !same {
            return Ok(Err(format!(
                "output '{}' of two requests differs when they are joined",
                spec.name
            )));
        }
    }
    Ok(Ok(()))
}

fn rest(tensor: &Tensor) -> Option<&[usize]> {
    tensor.shape().dims().get(1..)
}

/// One tensor of the rows of both.
fn join(first: &Tensor, second: &Tensor) -> Result<Tensor> {
    let rows = |tensor: &Tensor| tensor.shape().dims().first().copied().unwrap_or(1);
    let mut dims = vec![rows(first) + rows(second)];
    dims.extend_from_slice(rest(first).unwrap_or_default());
    let data = [&first.data()[..], &second.data()[..]].concat();
    Tensor::new(first.dtype(), Shape::new(dims)?, data.into())
}
