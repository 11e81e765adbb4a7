//! DequantizeLinear: (x - zero point) · scale, in FP32 whatever comes out.

use tract_ndarray::ArrayD;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::super::ml::host::{Fact, Operator};
use super::grain::{Grain, Parameters};
use super::{SCALE, ZERO};

#[derive(Debug)]
pub struct Dequantise {
    grain: Grain,
    /// The output's type, where it is not the scale's.
    output: Option<DatumType>,
}

impl Dequantise {
    pub fn of(node: &NodeProto) -> TractResult<Dequantise> {
        let output = match node.get_attr_opt("output_dtype")? {
            None | Some(0) => None,
            Some(1) => Some(f32::datum_type()),
            Some(10) => Some(f16::datum_type()),
            Some(other) => {
                bail!("output_dtype {other} is not supported; 1 (FP32) and 10 (FP16) are")
            }
        };
        Ok(Dequantise {
            grain: Grain::of(node)?,
            output,
        })
    }
}

impl Operator for Dequantise {
    fn name(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn least_inputs(&self) -> usize {
        2
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let ((dtype, shape), (scale, _)) = (&inputs[0], &inputs[SCALE]);
        let known = [
            u8::datum_type(),
            i8::datum_type(),
            u16::datum_type(),
            i16::datum_type(),
            i32::datum_type(),
        ];
        ensure!(
            known.contains(dtype),
            "values of type {dtype:?} are not supported; UINT8, INT8, UINT16, INT16 and INT32 are"
        );
        ensure!(
            [f32::datum_type(), f16::datum_type()].contains(scale),
            "a scale of type {scale:?} is not supported; FP32 and FP16 are"
        );
        if let Some((zero, _)) = inputs.get(ZERO) {
            ensure!(
                zero == dtype,
                "the values are of type {dtype:?} and the zero point of type {zero:?}"
            );
        }
        self.grain.check(inputs)?;
        Ok(vec![(self.output.unwrap_or(*scale), shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let parameters = Parameters::of(&self.grain, inputs)?;
        let values = &inputs[0];
        let floats = match values.datum_type() {
            DatumType::U8 => floats::<u8>(values, &parameters),
            DatumType::I8 => floats::<i8>(values, &parameters),
            DatumType::U16 => floats::<u16>(values, &parameters),
            DatumType::I16 => floats::<i16>(values, &parameters),
            DatumType::I32 => floats::<i32>(values, &parameters),
            other => bail!("values of type {other:?} are not supported"),
        };
        let output = self.output.unwrap_or(inputs[SCALE].datum_type());
        let floats = floats?.cast_to_dt(output)?.into_owned();
        Ok(tvec![floats.into_tvalue()])
    }
}

fn floats<T: Datum + Copy + Into<i32>>(
    values: &Tensor,
    parameters: &Parameters,
) -> TractResult<Tensor> {
    let shape = values.shape();
    let values = values.try_as_plain_ram()?.as_slice::<T>()?;
    let mut output = vec![0f32; values.len()];
    parameters.apply(values, &mut output, |value, scale, zero| {
        value.into().wrapping_sub(zero) as f32 * scale
    });
    Ok(ArrayD::from_shape_vec(shape, output)?.into_tensor())
}
