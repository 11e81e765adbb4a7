//! How far two computations of the same thing lie apart, and how far they may.

use half::{bf16, f16};

use super::dtype::DataType;
use super::value::{Element, Tensor};

/// How coarsely a model computes: by the coarsest of the types that its values go through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// FP32 or finer.
    #[default]
    Single,
    /// FP16.
    Half,
    /// BF16.
    Bfloat,
    /// Steps of eight bits or fewer.
    Quantised,
}

/// Differences count relative to the largest value of a tensor, and of a tensor of still smaller values to this.
pub const LEAST_LARGEST: f64 = 1e-2;

impl Precision {
    /// How far two sound computations of an output of this type may lie apart, in terms of [`distance`].
    pub fn tolerance(self, dtype: DataType) -> f64 {
        let inside = match self {
            Precision::Single => 1e-4,
            Precision::Half => 1e-2,
            Precision::Bfloat | Precision::Quantised => 5e-2,
        };
        match dtype {
            DataType::Fp16 => f64::max(inside, 1e-2),
            DataType::Bf16 => 5e-2,
            DataType::Fp32 => inside,
            DataType::Fp64 if self == Precision::Single => 1e-5,
            DataType::Fp64 => inside,
            // A value between two steps may be rounded to either.
            DataType::Int8 | DataType::UInt8 if self == Precision::Quantised => 1.0,
            _ => 0.0,
        }
    }
}

/// The largest difference between two tensors of the same output: for fractions relative to the largest value, for whole
/// numbers of eight bits in steps. An error says what cannot be measured: another type or shape, or other elements.
pub fn distance(one: &Tensor, other: &Tensor) -> Result<f64, String> {
    if one.dtype() != other.dtype() || one.shape() != other.shape() {
        return Err(format!(
            "{} {} against {} {}",
            one.dtype(),
            one.shape(),
            other.dtype(),
            other.shape()
        ));
    }
    match one.dtype() {
        DataType::Fp16 => relative::<f16>(one, other),
        DataType::Bf16 => relative::<bf16>(one, other),
        DataType::Fp32 => relative::<f32>(one, other),
        DataType::Fp64 => relative::<f64>(one, other),
        DataType::Int8 => Ok(steps::<i8>(one, other)),
        DataType::UInt8 => Ok(steps::<u8>(one, other)),
        _ if one.data() == other.data() => Ok(0.0),
        DataType::Int32 => whole::<i32>(one, other, i32::MIN, i32::MAX),
        DataType::Int64 => whole::<i64>(one, other, i64::MIN, i64::MAX),
        DataType::Bytes => Err(unlike(one.strings().zip(other.strings()))),
        dtype => {
            let width = dtype.width().unwrap_or(1);
            Err(unlike(
                one.data().chunks(width).zip(other.data().chunks(width)),
            ))
        }
    }
}

/// Whether two computations of the same thing may differ like this, when both are in their own types' precision.
pub fn agree(one: &Tensor, other: &Tensor) -> bool {
    distance(one, other).is_ok_and(|found| found <= Precision::Single.tolerance(one.dtype()))
}

/// Whole numbers are equal or not. A fraction that is too large for them becomes the least or the largest, as the
/// machine and the engine have it: ONNX leaves that open.
fn whole<T: Element + PartialEq>(
    one: &Tensor,
    other: &Tensor,
    least: T,
    largest: T,
) -> Result<f64, String> {
    let bounded = |number: T| if number == least { largest } else { number };
    let pairs = || pairs::<T>(one, other).map(|(one, other)| (bounded(one), bounded(other)));
    match pairs().all(|(one, other)| one == other) {
        true => Ok(0.0),
        false => Err(unlike(pairs())),
    }
}

fn unlike<T: PartialEq>(pairs: impl Iterator<Item = (T, T)>) -> String {
    let (mut all, mut unlike) = (0, 0);
    for (one, other) in pairs {
        all += 1;
        unlike += usize::from(one != other);
    }
    format!("{unlike} of {all} elements differ")
}

fn pairs<T: Element>(one: &Tensor, other: &Tensor) -> impl Iterator<Item = (T, T)> {
    let (one, other) = (one.elements::<T>(), other.elements::<T>());
    one.into_owned().into_iter().zip(other.into_owned())
}

fn steps<T: Element + Into<f64>>(one: &Tensor, other: &Tensor) -> f64 {
    let steps = pairs::<T>(one, other).map(|(one, other)| (one.into() - other.into()).abs());
    steps.fold(0.0, f64::max)
}

fn relative<T: Element + Into<f64>>(one: &Tensor, other: &Tensor) -> Result<f64, String> {
    let (mut largest, mut apart, mut odd) = (LEAST_LARGEST, 0f64, 0usize);
    for (one, other) in pairs::<T>(one, other) {
        let (one, other): (f64, f64) = (one.into(), other.into());
        if one.is_finite() && other.is_finite() {
            largest = largest.max(one.abs());
            apart = apart.max((one - other).abs());
        } else if one != other && !(one.is_nan() && other.is_nan()) {
            odd += 1;
        }
    }
    match odd {
        0 => Ok(apart / largest),
        _ => Err(format!(
            "{odd} elements are infinite or no number in one and not in the other"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::shape::Shape;

    fn tensor<T: Element>(elements: &[T]) -> Tensor {
        let shape = Shape::new(vec![elements.len()]).expect("small shapes fit");
        Tensor::from_vec(shape, elements.to_vec()).expect("the length fits")
    }

    #[test]
    fn fractions_count_relative_to_the_largest() {
        let found = distance(&tensor(&[100f32, 1.0]), &tensor(&[100f32, 1.5]));
        assert_eq!(found, Ok(0.005));
        assert!(agree(
            &tensor(&[1f32, f32::NAN]),
            &tensor(&[1f32, f32::NAN])
        ));
        assert!(!agree(&tensor(&[1f32]), &tensor(&[f32::INFINITY])));
        assert!(!agree(&tensor(&[1f32, 2.0]), &tensor(&[1f32])));
    }

    #[test]
    fn small_probabilities_are_compared_as_well() {
        assert!(!agree(&tensor(&[1e-3f32, 2e-3]), &tensor(&[2e-3f32, 1e-3])));
        assert!(agree(&tensor(&[0f32]), &tensor(&[1e-7f32])));
    }

    #[test]
    fn whole_numbers_are_equal_or_not() {
        let found = distance(&tensor(&[1i64, 2, 3]), &tensor(&[1i64, 3, 2]));
        assert_eq!(found, Err("2 of 3 elements differ".to_owned()));
    }

    #[test]
    fn what_is_too_large_for_a_whole_number_is_one_bound_or_the_other() {
        let found = distance(&tensor(&[1, i64::MIN]), &tensor(&[1, i64::MAX]));
        assert_eq!(found, Ok(0.0));
        assert!(distance(&tensor(&[1, i32::MIN]), &tensor(&[1, 0])).is_err());
    }

    #[test]
    fn only_a_quantised_model_may_be_a_step_off() {
        let apart = distance(&tensor(&[7u8]), &tensor(&[8u8])).expect("they can be compared");
        assert!(apart > Precision::Single.tolerance(DataType::UInt8));
        assert!(apart <= Precision::Quantised.tolerance(DataType::UInt8));
    }
}
