//! The made-up requests with which engines are compared.

use crate::tensor::sample::{Integers, Sample};
use crate::tensor::signature::{CheckedInputs, Signature, TensorSpec};

/// The rows of the requests. Whether requests can be joined is proven with the same, so that plans which were made for
/// them serve twice.
const ROWS: [usize; 2] = [1, 3];

/// Requests like those that an engine was seen to run, with other numbers, rows and lengths.
pub fn cases(signature: &Signature, seen: &[Sample]) -> Vec<CheckedInputs> {
    make(signature, seen, |sample| sample)
}

/// The same with more various whole numbers, for models that take some.
pub fn various_cases(signature: &Signature, seen: &[Sample]) -> Option<Vec<CheckedInputs>> {
    let takes_some = signature.inputs.iter().any(|spec| spec.dtype.is_integer());
    let various = |sample| Sample {
        integers: Integers::Bytes,
        ..sample
    };
    takes_some.then(|| make(signature, seen, various))
}

fn make(
    signature: &Signature,
    seen: &[Sample],
    change: impl Fn(Sample) -> Sample,
) -> Vec<CheckedInputs> {
    let mut samples: Vec<Sample> = Vec::new();
    for base in seen {
        for sample in variants(*base, signature) {
            if !samples.contains(&sample) {
                samples.push(sample);
            }
        }
    }
    // What is too large to be made up is left out.
    let inputs = samples
        .into_iter()
        .filter_map(|sample| change(sample).inputs(signature).ok());
    inputs.collect()
}

fn variants(base: Sample, signature: &Signature) -> Vec<Sample> {
    let with = |rows, free, seed| Sample {
        rows,
        free,
        seed,
        ..base
    };
    let [one, several] = ROWS;
    let mut variants = vec![with(one, base.free, 1), with(several, base.free, 2)];
    if signature.inputs.iter().any(TensorSpec::has_free_dims) {
        variants.push(with(one, base.free * 2, 3));
    }
    variants
}
