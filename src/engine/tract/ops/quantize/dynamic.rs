//! DynamicQuantizeLinear: UINT8 over the range that the values span, with zero in it.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::super::ml::host::{Fact, Operator};
use super::grain::Parameters;
use super::rounding::quantised;

#[derive(Debug)]
pub struct Dynamic;

/// How many running extremes there are, so that each element need not wait for that before it.
const LANES: usize = 16;

/// The least and the greatest of the values and zero; NaN counts for nothing.
fn extremes(values: &[f32]) -> [f32; 2] {
    let (mut least, mut greatest) = ([0f32; LANES], [0f32; LANES]);
    for values in values.chunks(LANES) {
        let lanes = least.iter_mut().zip(&mut greatest);
        for (value, (least, greatest)) in values.iter().zip(lanes) {
            *least = if value < least { *value } else { *least };
            *greatest = if value > greatest { *value } else { *greatest };
        }
    }
    [
        least.into_iter().fold(0.0, f32::min),
        greatest.into_iter().fold(0.0, f32::max),
    ]
}

/// The scale and the zero point for values between these.
fn parameters([least, greatest]: [f32; 2]) -> (f32, u8) {
    const HIGHEST: f32 = u8::MAX as f32;
    let span = greatest - least;
    let scale = if span == 0.0 { 1.0 } else { span / HIGHEST };
    let zero = -least / scale;
    // 0 / 0 and ∞ / ∞ become the highest, as in ONNX Runtime.
    let zero = if zero.is_nan() { HIGHEST } else { zero };
    // The cast saturates.
    (scale, zero.round_ties_even() as u8)
}

impl Operator for Dynamic {
    fn name(&self) -> &'static str {
        "DynamicQuantizeLinear"
    }

    fn outputs(&self) -> usize {
        3
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        ensure!(
            *dtype == f32::datum_type(),
            "values of type {dtype:?} are not supported; FP32 is"
        );
        let byte = u8::datum_type();
        Ok(vec![
            (byte, shape.clone()),
            (*dtype, tvec![]),
            (byte, tvec![]),
        ])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let values = &inputs[0];
        let floats = values.try_as_plain_ram()?.as_slice::<f32>()?;
        let (scale, zero) = parameters(extremes(floats));
        let one = Parameters::one(scale, i32::from(zero), values.shape());
        let output = quantised(values, &one, u8::datum_type())?;
        Ok(tvec![
            output.into_tvalue(),
            tensor0(scale).into_tvalue(),
            tensor0(zero).into_tvalue(),
        ])
    }
}
