//! Activation functions of our own: Celu and Swish, of which tract drops alpha, and the PRelu of operator set 6.

use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};
use super::builtin::builtin;

/// Registers the operators; tract's stay where they are right.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("Celu", |_, node| {
        let alpha = node.get_attr_opt("alpha")?.unwrap_or(1.0);
        Ok((Host::node(Pointwise::Celu { alpha }), vec![]))
    });
    onnx.op_register.insert("Swish", |context, node| {
        match node.get_attr_opt("alpha")?.unwrap_or(1.0) {
            1.0 => builtin(context, node),
            alpha => Ok((Host::node(Pointwise::Swish { alpha }), vec![])),
        }
    });
    onnx.op_register.insert("PRelu", |context, node| {
        match context.onnx_operator_set_version {
            1..7 => Ok((Host::node(Pointwise::ChannelPRelu), vec![])),
            _ => builtin(context, node),
        }
    });
}

#[derive(Debug, Clone, Copy)]
enum Pointwise {
    Celu {
        alpha: f32,
    },
    Swish {
        alpha: f32,
    },
    /// A slope for each channel, which is the second dimension.
    ChannelPRelu,
}

impl Operator for Pointwise {
    fn name(&self) -> &'static str {
        match self {
            Pointwise::Celu { .. } => "Celu",
            Pointwise::Swish { .. } => "Swish",
            Pointwise::ChannelPRelu => "PRelu",
        }
    }

    fn least_inputs(&self) -> usize {
        match self {
            Pointwise::ChannelPRelu => 2,
            _ => 1,
        }
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, _) = &inputs[0];
        ensure!(
            dtype.is_float(),
            "inputs of type {dtype:?} are not supported"
        );
        Ok(vec![inputs[0].clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        // In doubles, so that every type of float goes the same way.
        let input = inputs[0].cast_to::<f64>()?;
        let mut values = input.to_plain_array_view::<f64>()?.to_owned();
        match *self {
            Pointwise::Celu { alpha } => {
                let alpha = f64::from(alpha);
                values.mapv_inplace(|x| x.max(0.0) + (alpha * (x / alpha).exp_m1()).min(0.0));
            }
            Pointwise::Swish { alpha } => {
                let alpha = f64::from(alpha);
                values.mapv_inplace(|x| x / (1.0 + (-alpha * x).exp()));
            }
            Pointwise::ChannelPRelu => {
                let slopes = inputs[1].cast_to::<f64>()?;
                let slopes = slopes.to_plain_array_view::<f64>()?;
                let slopes: Vec<f64> = slopes.iter().copied().collect();
                let channels = values.shape().get(1).copied().unwrap_or(1);
                ensure!(
                    slopes.len() == channels || slopes.len() == 1,
                    "{channels} slopes are needed, and there are {}",
                    slopes.len()
                );
                for (position, value) in values.indexed_iter_mut() {
                    let channel = if slopes.len() == 1 { 0 } else { position[1] };
                    *value = if *value < 0.0 {
                        *value * slopes[channel]
                    } else {
                        *value
                    };
                }
            }
        }
        let output = values.into_tensor();
        let output = output.cast_to_dt(inputs[0].datum_type())?.into_owned();
        Ok(tvec![output.into_tvalue()])
    }
}
