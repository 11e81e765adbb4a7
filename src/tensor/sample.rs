//! Inputs made up to fit a signature, for trying a model out before any request has come.

use std::fmt;

use super::dtype::DataType;
use super::shape::Shape;
use super::signature::{CheckedInputs, Dim, Signature, TensorSpec};
use super::value::{NamedTensor, Tensor, push_string};
use crate::error::{Error, Result};
use half::{bf16, f16};

/// The most elements of a tensor that is made up: what is larger is not tried out.
const MOST_ELEMENTS: usize = 64 << 20;

/// Lengths to try for dynamic dimensions other than the rows: some models need images or windows of some size. In shorter
/// ones the windows of many networks do not fit, which engines take differently.
const FREE_LENGTHS: [usize; 4] = [64, 1, 224, 512];

/// How to fill in what a signature leaves open. The same sample always makes the same inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// The length of a dynamic first dimension.
    pub rows: usize,
    /// The length of every other dynamic dimension.
    pub free: usize,
    pub integers: Integers,
    /// Chooses the numbers; 0 makes them all zero.
    pub seed: u64,
}

/// How whole numbers are made up, which may be indices, lengths or axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Integers {
    /// 0 or 1, as the seed has it.
    Bits,
    /// 1 everywhere.
    Ones,
    /// 0, 1, 2, …
    Count,
    /// The dimensions of the first input, as far as they go: what a reshape might ask for.
    Shape,
    /// 0 to 127, as the seed has it.
    Bytes,
}

impl Sample {
    /// One row of zeros, and every other open dimension 1.
    pub const ZEROS: Sample = Sample {
        rows: 1,
        free: 1,
        integers: Integers::Bits,
        seed: 0,
    };

    /// The made-up requests to try a model with, the likeliest first.
    pub fn likely(inputs: &[TensorSpec]) -> Vec<Sample> {
        let has_integers = inputs.iter().any(|spec| spec.dtype.is_integer());
        let lengths = match inputs.iter().any(TensorSpec::has_free_dims) {
            true => &FREE_LENGTHS[..],
            false => &[Sample::ZEROS.free],
        };
        let mut samples: Vec<_> = lengths
            .iter()
            .map(|free| Sample {
                free: *free,
                ..Sample::ZEROS
            })
            .collect();
        samples.push(Sample {
            seed: 1,
            ..Sample::ZEROS
        });
        if has_integers {
            let others = [Integers::Ones, Integers::Count, Integers::Shape];
            samples.extend(others.map(|integers| Sample {
                integers,
                ..Sample::ZEROS
            }));
        }
        samples
    }

    /// Inputs that fit the signature.
    pub fn inputs(&self, signature: &Signature) -> Result<CheckedInputs> {
        signature.check(self.tensors(signature)?)
    }

    /// Inputs in these shapes, which come in the signature's order.
    pub fn inputs_shaped(&self, signature: &Signature, shapes: &[Shape]) -> Result<CheckedInputs> {
        let shaped = signature.inputs.iter().zip(shapes);
        let inputs = shaped.map(|(spec, shape)| TensorSpec {
            dims: Some(shape.dims().iter().copied().map(Dim::Fixed).collect()),
            ..spec.clone()
        });
        let fixed = Signature {
            inputs: inputs.collect(),
            outputs: Vec::new(),
        };
        signature.check(self.tensors(&fixed)?)
    }

    /// The same, by name.
    pub fn tensors(&self, signature: &Signature) -> Result<Vec<NamedTensor>> {
        let first_dims = || {
            let dims = signature.inputs.iter().map(|spec| spec.dims.as_deref());
            dims.filter_map(|dims| match dims {
                Some([Dim::Dynamic(name), ..]) => Some(name.as_deref()),
                _ => None,
            })
        };
        let rows = RowDims {
            name: first_dims().flatten().next(),
            are_first: first_dims().next().is_some(),
        };
        let mut numbers = Numbers(self.seed);
        let mut first: Option<Vec<usize>> = None;
        let tensor = |spec: &TensorSpec| {
            let dims = self.dims(spec, &rows);
            let first = first.get_or_insert_with(|| dims.clone());
            let tensor = self.tensor(spec.dtype, dims, first, &mut numbers)?;
            Ok(NamedTensor {
                name: spec.name.clone(),
                tensor,
            })
        };
        signature.inputs.iter().map(tensor).collect()
    }

    fn dims(&self, spec: &TensorSpec, rows: &RowDims) -> Vec<usize> {
        let dims = spec.dims.as_deref().unwrap_or(&[Dim::Dynamic(None)]);
        let dynamic = dims.iter().filter(|dim| matches!(dim, Dim::Dynamic(_)));
        // The rows of a recurrent network's state often come second, after its layers.
        let is_rows_alone = rows.are_first && dynamic.count() == 1;
        let length = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Fixed(length) => *length,
            Dim::Dynamic(_) if axis == 0 => self.rows,
            Dim::Dynamic(Some(name)) if rows.name == Some(name) => self.rows,
            Dim::Dynamic(None) if is_rows_alone => self.rows,
            Dim::Dynamic(_) => self.free,
        };
        dims.iter().enumerate().map(length).collect()
    }

    fn tensor(
        &self,
        dtype: DataType,
        dims: Vec<usize>,
        first: &[usize],
        numbers: &mut Numbers,
    ) -> Result<Tensor> {
        let shape = Shape::new(dims)?;
        let elements = shape.elements();
        if elements > MOST_ELEMENTS {
            return Err(Error::too_large(format!(
                "a tensor of shape {shape} is too large to be made up"
            )));
        }
        let mut integer = |at: usize| match self.integers {
            Integers::Bits => numbers.next() >> 63,
            Integers::Ones => 1,
            Integers::Count => at as u64,
            Integers::Shape => first.get(at).map_or(1, |length| *length as u64),
            Integers::Bytes => numbers.next() >> 57,
        };
        let mut data = Vec::new();
        if dtype == DataType::Bytes {
            for at in 0..elements {
                push_string(&mut data, if integer(at) == 0 { b"a" } else { b"b" })?;
            }
        }
        if dtype.is_integer() || dtype == DataType::Bool {
            let width = dtype.width().unwrap_or(0);
            let most = match dtype {
                DataType::Bool => 1,
                _ if width == 1 => i8::MAX as u64,
                _ => u64::MAX,
            };
            for at in 0..elements {
                data.extend_from_slice(&integer(at).min(most).to_le_bytes()[..width]);
            }
        }
        for _ in 0..elements {
            let value = numbers.fraction();
            match dtype {
                DataType::Fp16 => data.extend_from_slice(&f16::from_f32(value).to_le_bytes()),
                DataType::Bf16 => data.extend_from_slice(&bf16::from_f32(value).to_le_bytes()),
                DataType::Fp32 => data.extend_from_slice(&value.to_le_bytes()),
                DataType::Fp64 => data.extend_from_slice(&f64::from(value).to_le_bytes()),
                _ => break,
            }
        }
        Tensor::new(dtype, shape, data.into())
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Sample { rows, free, .. } = self;
        write!(f, "{rows} rows and every other dynamic dimension {free}")
    }
}

/// What tells the rows among a signature's dimensions.
struct RowDims<'a> {
    /// The name of a dimension that an input has first.
    name: Option<&'a str>,
    /// Whether any input's first dimension is dynamic.
    are_first: bool,
}

/// Numbers that look random: xorshift64 by Marsaglia (2003). Zero stays zero.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From -1 to 1, and 0 for the seed 0.
    fn fraction(&mut self) -> f32 {
        (self.next() as i64 >> 40) as f32 / (1 << 23) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, dtype: DataType, dims: Vec<Dim>) -> TensorSpec {
        TensorSpec {
            name: name.into(),
            dtype,
            dims: Some(dims),
            columns: None,
        }
    }

    #[test]
    fn every_type_is_made_up_and_fits() {
        let open = || {
            vec![
                Dim::Dynamic(Some("batch".into())),
                Dim::Dynamic(None),
                Dim::Fixed(2),
            ]
        };
        let inputs = DataType::ALL
            .iter()
            .map(|dtype| spec(dtype.name(), *dtype, open()))
            .collect();
        let signature = Signature {
            inputs,
            outputs: Vec::new(),
        };
        for integers in [
            Integers::Bits,
            Integers::Ones,
            Integers::Count,
            Integers::Shape,
            Integers::Bytes,
        ] {
            let sample = Sample {
                rows: 3,
                free: 5,
                integers,
                seed: 7,
            };
            let inputs = sample.inputs(&signature).expect("made-up inputs fit");
            assert!(
                inputs
                    .tensors()
                    .iter()
                    .all(|tensor| tensor.shape().dims() == [3, 5, 2])
            );
        }
    }

    #[test]
    fn the_only_open_dimension_of_a_state_is_the_rows() {
        let dims = vec![Dim::Fixed(2), Dim::Dynamic(None), Dim::Fixed(4)];
        let state = spec("state", DataType::Fp32, dims);
        let sound = spec("sound", DataType::Fp32, vec![Dim::Dynamic(None); 2]);
        let shapes = |inputs| {
            let outputs = Vec::new();
            let sample = Sample {
                rows: 3,
                free: 5,
                ..Sample::ZEROS
            };
            let inputs = sample.inputs(&Signature { inputs, outputs });
            let inputs = inputs.expect("made-up inputs fit");
            let shapes = inputs.tensors().iter();
            shapes
                .map(|tensor| tensor.shape().dims().to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shapes(vec![state.clone(), sound]),
            [vec![2, 3, 4], vec![3, 5]]
        );
        assert_eq!(shapes(vec![state]), [[2, 5, 4]]);
    }

    #[test]
    fn a_seed_chooses_the_numbers() {
        let signature = Signature {
            inputs: vec![spec("x", DataType::Fp32, vec![Dim::Fixed(64)])],
            outputs: vec![],
        };
        let values = |seed| {
            let inputs = Sample {
                seed,
                ..Sample::ZEROS
            }
            .inputs(&signature)
            .expect("made-up inputs fit");
            inputs.tensors()[0].elements::<f32>().into_owned()
        };
        assert!(values(0).iter().all(|value| *value == 0.0));
        assert!(values(1).iter().all(|value| (-1.0..=1.0).contains(value)));
        assert_ne!(values(1), values(2));
        assert_eq!(values(1), values(1));
    }

    #[test]
    fn what_is_absurdly_large_is_not_made_up() {
        let dims = vec![Dim::Fixed(1 << 40)];
        let signature = Signature {
            inputs: vec![spec("x", DataType::Fp32, dims)],
            outputs: vec![],
        };
        assert!(Sample::ZEROS.inputs(&signature).is_err());
    }
}
