//! QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear of our own.
//!
//! tract's QuantizeLinear multiplies by the scale's reciprocal, so that ties fall to the wrong side. It wants constant
//! scales and knows no blocks; and its DynamicQuantizeLinear gives zeros a scale of 0. All here as ONNX Runtime does.

mod dequantise;
mod dynamic;
mod grain;
mod rounding;

use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};
use super::present::Present;
use dequantise::Dequantise;
use dynamic::Dynamic;
use grain::{Grain, Parameters};
use rounding::quantised;

/// Where scales and zero points stand among the inputs; the latter may be left out.
const SCALE: usize = 1;
const ZERO: usize = 2;

/// Registers the operators; they replace tract's.
pub fn register(onnx: &mut Onnx) {
    let register = &mut onnx.op_register;
    register.insert("QuantizeLinear", |_, node| {
        check_inputs(node)?;
        let quantise = Quantise {
            grain: Grain::of(node)?,
            output: output_type(node)?,
        };
        Ok((Host::node(quantise), vec![]))
    });
    register.insert("DequantizeLinear", |_, node| {
        check_inputs(node)?;
        Ok((Host::node(Dequantise::of(node)?), vec![]))
    });
    register.insert("DynamicQuantizeLinear", |_, _| {
        Ok((Host::node(Dynamic), vec![]))
    });
}

fn check_inputs(node: &NodeProto) -> TractResult<()> {
    let inputs = Present::of(&node.input);
    ensure!(
        inputs.get(0).is_some() && inputs.get(SCALE).is_some(),
        "the values and their scale are needed"
    );
    Ok(())
}

/// The type that the attribute asks for, by ONNX's number.
fn output_type(node: &NodeProto) -> TractResult<Option<DatumType>> {
    Ok(match node.get_attr_opt("output_dtype")? {
        None | Some(0) => None,
        Some(2) => Some(u8::datum_type()),
        Some(3) => Some(i8::datum_type()),
        Some(4) => Some(u16::datum_type()),
        Some(5) => Some(i16::datum_type()),
        Some(other) => bail!(
            "output_dtype {other} is not supported; 2 (UINT8), 3 (INT8), 4 (UINT16) and 5 (INT16) are"
        ),
    })
}

#[derive(Debug)]
struct Quantise {
    grain: Grain,
    /// The output's type when no zero point gives it.
    output: Option<DatumType>,
}

impl Quantise {
    fn output_type(&self, zero: Option<DatumType>) -> TractResult<DatumType> {
        if let (Some(asked), Some(zero)) = (self.output, zero) {
            ensure!(
                asked == zero,
                "output_dtype is {asked:?} and the zero point is of type {zero:?}"
            );
        }
        Ok(zero.or(self.output).unwrap_or(u8::datum_type()))
    }
}

impl Operator for Quantise {
    fn name(&self) -> &'static str {
        "QuantizeLinear"
    }

    fn least_inputs(&self) -> usize {
        2
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let ((dtype, shape), (scale, _)) = (&inputs[0], &inputs[SCALE]);
        let floats = [f32::datum_type(), f16::datum_type()];
        ensure!(
            floats.contains(dtype) || *dtype == i32::datum_type(),
            "values of type {dtype:?} are not supported; FP32, FP16 and INT32 are"
        );
        ensure!(
            floats.contains(scale),
            "a scale of type {scale:?} is not supported; FP32 and FP16 are"
        );
        let output = self.output_type(inputs.get(ZERO).map(|(dtype, _)| *dtype))?;
        let known = [
            u8::datum_type(),
            i8::datum_type(),
            u16::datum_type(),
            i16::datum_type(),
        ];
        ensure!(
            known.contains(&output),
            "a zero point of type {output:?} is not supported; UINT8, INT8, UINT16 and INT16 are"
        );
        self.grain.check(inputs)?;
        Ok(vec![(output, shape.clone())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let parameters = Parameters::of(&self.grain, inputs)?;
        let zero = inputs.get(ZERO).map(|zero| zero.datum_type());
        let output = quantised(&inputs[0], &parameters, self.output_type(zero)?)?;
        Ok(tvec![output.into_tvalue()])
    }
}
