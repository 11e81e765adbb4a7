//! Gemm of our own: alpha · A' · B' + beta · C in the inputs' type. tract's has its factors in FP32 whatever that is.

use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::math::{add, mul};
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;

/// Registers the operator.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("Gemm", |_, node| {
        let gemm = Gemm {
            alpha: node.get_attr_opt("alpha")?.unwrap_or(1.0),
            beta: node.get_attr_opt("beta")?.unwrap_or(1.0),
            transposed: [
                node.get_attr_opt("transA")?.unwrap_or(false),
                node.get_attr_opt("transB")?.unwrap_or(false),
            ],
        };
        Ok((expand(gemm), vec![]))
    });
}

#[derive(Debug, Clone)]
struct Gemm {
    alpha: f32,
    beta: f32,
    /// Whether A and B come transposed.
    transposed: [bool; 2],
}

impl Expansion for Gemm {
    fn name(&self) -> StaticName {
        "Gemm".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        ensure!(
            (2..=3).contains(&inputs.len()),
            "Gemm has {} inputs",
            inputs.len()
        );
        check_output_arity(outputs, 1)?;
        let [a, b] = self.transposed.map(usize::from);
        for input in &inputs[..2] {
            solver.equals(&input.rank, 2)?;
        }
        for input in inputs {
            solver.equals(&input.datum_type, &outputs[0].datum_type)?;
        }
        solver.equals(&outputs[0].rank, 2)?;
        solver.equals(&inputs[0].shape[1 - a], &inputs[1].shape[b])?;
        solver.equals(&outputs[0].shape[0], &inputs[0].shape[a])?;
        solver.equals(&outputs[0].shape[1], &inputs[1].shape[1 - b])
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let [a, b] = self.transposed;
        let dtype = model.outlet_fact(inputs[0])?.datum_type;
        let product = EinSum::new(AxesMapping::for_numpy_matmul(2, a, b, false)?, dtype);
        let product = model.wire_node(format!("{prefix}.product"), product, &inputs[..2])?;
        let mut output = self.scaled(&format!("{prefix}.alpha"), model, product[0], self.alpha)?;
        if let Some(added) = inputs.get(2).filter(|_| self.beta != 0.0) {
            let added = self.scaled(&format!("{prefix}.beta"), model, *added, self.beta)?;
            output =
                wire_with_rank_broadcast(format!("{prefix}.sum"), model, add(), &[output, added])?
                    [0];
        }
        Ok(tvec![output])
    }
}

impl Gemm {
    fn scaled(
        &self,
        name: &str,
        model: &mut TypedModel,
        value: OutletId,
        by: f32,
    ) -> TractResult<OutletId> {
        if by == 1.0 {
            return Ok(value);
        }
        let dtype = model.outlet_fact(value)?.datum_type;
        let factor = tensor0(by).cast_to_dt(dtype)?.into_owned();
        let factor = model.add_const(format!("{name}.factor"), factor)?;
        Ok(wire_with_rank_broadcast(name, model, mul(), &[value, factor])?[0])
    }
}
