//! From floats to whole numbers: divided in FP32, to the nearest, ties to even, within the type's range.

use tract_ndarray::ArrayD;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::grain::Parameters;

/// The values as whole numbers of this type.
pub fn quantised(
    values: &Tensor,
    parameters: &Parameters,
    output: DatumType,
) -> TractResult<Tensor> {
    match output {
        DatumType::U8 => of_type(values, parameters, [0, 255], |value| value as u8),
        DatumType::I8 => of_type(values, parameters, [-128, 127], |value| value as i8),
        DatumType::U16 => of_type(values, parameters, [0, 65535], |value| value as u16),
        DatumType::I16 => of_type(values, parameters, [-32768, 32767], |value| value as i16),
        other => bail!("a result of type {other:?} is not supported"),
    }
}

fn of_type<T: Datum + Copy + Default>(
    values: &Tensor,
    parameters: &Parameters,
    range: [i32; 2],
    narrow: impl Fn(i32) -> T,
) -> TractResult<Tensor> {
    let shape = values.shape();
    let values = values.cast_to::<f32>()?;
    let values = values.try_as_plain_ram()?.as_slice::<f32>()?;
    let mut output = vec![T::default(); values.len()];
    parameters.apply(values, &mut output, |value, scale, zero| {
        narrow(nearest(value, scale, zero, range))
    });
    Ok(ArrayD::from_shape_vec(shape, output)?.into_tensor())
}

/// The whole number in a range of at most 16 bits that stands for a value; the lowest for NaN, as in ONNX Runtime.
fn nearest(value: f32, scale: f32, zero: i32, [lowest, highest]: [i32; 2]) -> i32 {
    // Adding this leaves no bits for a fraction, and the processor rounds, ties to even. `round_ties_even` would be a
    // call for every element: the x86-64 that we build for has no instruction for it.
    const NO_FRACTION: f32 = 12_582_912.0;
    let (lowest, highest) = ((lowest - zero) as f32, (highest - zero) as f32);
    let value = (value / scale).max(lowest).min(highest);
    let shifted = value + NO_FRACTION;
    // The lowest bits of such a number are those of the whole number.
    (shifted.to_bits() as i32) - (NO_FRACTION.to_bits() as i32) + zero
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_ties_to_even_and_saturates() {
        let check = |value, wanted| assert_eq!(nearest(value, 2.0, 3, [-128, 127]), wanted);
        check(1.0, 3);
        check(3.0, 5);
        check(5.0, 5);
        check(-1.0, 3);
        check(-3.0, 1);
        check(1e30, 127);
        check(f32::INFINITY, 127);
        check(f32::NEG_INFINITY, -128);
        check(f32::NAN, -128);
    }

    #[test]
    fn agrees_with_round_ties_even_over_every_range() {
        for range in [[0, 255], [-128, 127], [0, 65535], [-32768, 32767]] {
            for zero in range {
                for quarters in -600_000..600_000 {
                    let value = quarters as f32 / 4.0;
                    let rounded = value.round_ties_even() as i32 + zero;
                    let wanted = rounded.clamp(range[0], range[1]);
                    assert_eq!(nearest(value, 1.0, zero, range), wanted);
                }
            }
        }
    }
}
