//! Whether requests may be joined into one run: proven with two different requests, never guessed.
//!
//! A model whose every first dimension is dynamic may still mix its rows, as a matrix product of two inputs does.

use crate::engine::{Model, Session};
use crate::error::{Result, guarded};
use crate::tensor::batch;
use crate::tensor::difference;
use crate::tensor::sample::Sample;
use crate::tensor::signature::{CheckedInputs, Dim, Signature};

/// Runs two made-up requests apart and joined and compares the answers; says why not, where they may not be joined.
pub fn prove(model: &dyn Model) -> Result<(), String> {
    let signature = model.signature();
    if !signature.has_rows() {
        return Err("the first dimension of some input or output is fixed".to_owned());
    }
    if let Some(symbol) = rows_elsewhere(signature) {
        return Err(format!(
            "dimension '{symbol}' counts rows and is a later dimension of some input or output too"
        ));
    }
    let sample = model
        .sample()
        .ok_or("no made-up request runs, so nothing could be proven")?;
    let compare = || compare(model, sample);
    guarded("while it was tried", compare).map_err(|error| error.chain())?
}

/// The name of a first dimension that stands elsewhere as well: when rows are joined it would grow there too.
fn rows_elsewhere(signature: &Signature) -> Option<&str> {
    let specs = || signature.inputs.iter().chain(&signature.outputs);
    let dims = || specs().filter_map(|spec| spec.dims.as_deref());
    let name = |dim: &'_ Dim| match dim {
        Dim::Dynamic(Some(name)) => Some(name.clone()),
        _ => None,
    };
    let later: Vec<_> = dims()
        .flat_map(|dims| dims.iter().skip(1).filter_map(name))
        .collect();
    let mut first = dims().filter_map(|dims| match dims.first() {
        Some(Dim::Dynamic(Some(name))) => Some(name.as_str()),
        _ => None,
    });
    first.find(|first| later.iter().any(|later| later == first))
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
    if !one.is_in_rows() || !two.is_in_rows() {
        return Ok(Err(
            "the first dimensions of a made-up request's inputs differ".to_owned(),
        ));
    }
    let both = CheckedInputs::concat(&[&one, &two])?;
    let mut session = model.session(1)?;
    let mut run = |inputs: &CheckedInputs| Session::run(&mut *session, inputs);
    let (apart, joined) = ((run(&one)?, run(&two)?), run(&both)?);
    for (at, spec) in signature.outputs.iter().enumerate() {
        let (first, second) = (&apart.0[at], &apart.1[at]);
        // Else it would not be known whose rows are whose.
        if (batch::rows(first), batch::rows(second)) != (Some(1), Some(2)) {
            return Ok(Err(format!(
                "output '{}' has not as many rows as the inputs",
                spec.name
            )));
        }
        let together = batch::concat(&[first, second]);
        let same = together.is_ok_and(|together| difference::agree(&joined[at], &together));
        if !same {
            return Ok(Err(format!(
                "output '{}' of two requests differs when they are joined",
                spec.name
            )));
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::DataType;
    use crate::tensor::signature::TensorSpec;

    #[test]
    fn rows_that_are_a_later_dimension_as_well_are_seen() {
        let check = |inputs: &[&[&str]], expected: Option<&str>| {
            let spec = |names: &&[&str]| TensorSpec {
                name: "x".into(),
                dtype: DataType::Fp32,
                dims: Some(
                    names
                        .iter()
                        .map(|name| Dim::Dynamic(Some((*name).to_owned())))
                        .collect(),
                ),
                columns: None,
            };
            let signature = Signature {
                inputs: inputs.iter().map(spec).collect(),
                outputs: Vec::new(),
            };
            assert_eq!(rows_elsewhere(&signature), expected);
        };
        check(&[&["n", "k"], &["n"]], None);
        check(&[&["n", "n"]], Some("n"));
        check(&[&["n", "k"], &["k", "m"]], Some("k"));
    }
}
