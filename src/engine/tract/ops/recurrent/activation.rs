//! The activation functions that a recurrent layer may name, with their parameters.

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use tract_ndarray::Array2;

use super::Real;

/// A function and its alpha and beta, which not every function has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    function: Function,
    alpha: f32,
    beta: f32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    Affine,
    Elu,
    HardSigmoid,
    LeakyRelu,
    Relu,
    ScaledTanh,
    Sigmoid,
    Softplus,
    Softsign,
    Tanh,
    ThresholdedRelu,
}

impl Activation {
    /// The functions that were named; each takes its parameters from the front of the lists.
    pub fn read_all(
        names: &[String],
        alphas: &[f32],
        betas: &[f32],
    ) -> TractResult<Vec<Activation>> {
        let (mut alphas, mut betas) = (alphas.iter().copied(), betas.iter().copied());
        let read = |name: &String| Activation::read(name, &mut alphas, &mut betas);
        names.iter().map(read).collect()
    }

    fn read(
        name: &str,
        alphas: &mut impl Iterator<Item = f32>,
        betas: &mut impl Iterator<Item = f32>,
    ) -> TractResult<Activation> {
        // ONNX and ONNX Runtime disagree about the values of parameters that are left out, where none is given here.
        let parameter = |kind: &str, from: &mut dyn Iterator<Item = f32>, default| {
            let given = from.next().or(default);
            given.with_context(|| format!("the activation function {name} needs its {kind}"))
        };
        let mut alpha = |default| parameter("alpha", alphas, default);
        // ONNX Runtime compares these names without case.
        let (function, alpha) = match name.to_ascii_lowercase().as_str() {
            "affine" => (Function::Affine, alpha(None)?),
            "elu" => (Function::Elu, alpha(Some(1.0))?),
            "hardsigmoid" => (Function::HardSigmoid, alpha(Some(0.2))?),
            "leakyrelu" => (Function::LeakyRelu, alpha(Some(0.01))?),
            "relu" => (Function::Relu, 0.0),
            "scaledtanh" => (Function::ScaledTanh, alpha(None)?),
            "sigmoid" => (Function::Sigmoid, 0.0),
            "softplus" => (Function::Softplus, 0.0),
            "softsign" => (Function::Softsign, 0.0),
            "tanh" => (Function::Tanh, 0.0),
            "thresholdedrelu" => (Function::ThresholdedRelu, alpha(None)?),
            _ => bail!("the activation function '{name}' is not known"),
        };
        let beta = match function {
            Function::Affine | Function::ScaledTanh => parameter("beta", betas, None)?,
            Function::HardSigmoid => parameter("beta", betas, Some(0.5))?,
            _ => 0.0,
        };
        Ok(Activation {
            function,
            alpha,
            beta,
        })
    }

    /// Replaces every value by the function's.
    pub fn apply<T: Real>(&self, values: &mut Array2<T>) {
        let (alpha, beta) = (T::of(self.alpha), T::of(self.beta));
        let (zero, one) = (T::zero(), T::one());
        match self.function {
            Function::Affine => values.mapv_inplace(|x| alpha * x + beta),
            Function::Elu => {
                values.mapv_inplace(|x| if x < zero { alpha * x.exp_m1() } else { x });
            }
            Function::HardSigmoid => {
                values.mapv_inplace(|x| (alpha * x + beta).max(zero).min(one));
            }
            Function::LeakyRelu => values.mapv_inplace(|x| if x < zero { alpha * x } else { x }),
            Function::Relu => values.mapv_inplace(|x| x.max(zero)),
            Function::ScaledTanh => values.mapv_inplace(|x| alpha * (beta * x).tanh()),
            Function::Sigmoid => values.mapv_inplace(|x| one / (one + (-x).exp())),
            // log(1 + eˣ), which must not overflow.
            Function::Softplus => {
                values.mapv_inplace(|x| x.max(zero) + (-x.abs()).exp().ln_1p());
            }
            Function::Softsign => values.mapv_inplace(|x| x / (one + x.abs())),
            Function::Tanh => values.mapv_inplace(T::tanh),
            Function::ThresholdedRelu => {
                values.mapv_inplace(|x| if x > alpha { x } else { zero });
            }
        }
    }
}
