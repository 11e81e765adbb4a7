//! Cast to INT64 of our own: tract's keeps 32 bits, since it takes every INT64 for a dimension.

use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::cast::cast;

use super::builtin::builtin;

/// Registers the operator; for other types tract's stays.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("Cast", |context, node| {
        let to: DatumType = node.get_attr("to")?;
        match to == i64::datum_type() {
            true => Ok((expand(CastToInt64), vec![])),
            false => builtin(context, node),
        }
    });
}

#[derive(Debug, Clone)]
struct CastToInt64;

/// What comes out: a dimension stays one, so that shapes can be computed with it.
fn output_type(input: DatumType) -> DatumType {
    if input.is_tdim() {
        input
    } else {
        i64::datum_type()
    }
}

impl Expansion for CastToInt64 {
    fn name(&self) -> StaticName {
        "Cast".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].rank, &inputs[0].rank)?;
        solver.equals(&outputs[0].shape, &inputs[0].shape)?;
        solver.given(&inputs[0].datum_type, move |solver, dtype| {
            solver.equals(&outputs[0].datum_type, output_type(dtype))
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let input = model.outlet_fact(inputs[0])?.datum_type;
        ensure!(
            input != String::datum_type(),
            "strings cannot be cast to INT64"
        );
        model.wire_node(prefix, cast(output_type(input)), inputs)
    }
}
