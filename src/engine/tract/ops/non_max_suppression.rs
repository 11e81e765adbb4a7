//! NonMaxSuppression by tract, which takes a limit of no boxes for no limit.

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::math::{add, min, sub};

use super::builtin::{Built, builtin_expansion};
use super::present::Present;

/// Registers the operator.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("NonMaxSuppression", parse);
}

fn parse(context: &ParsingContext, node: &NodeProto) -> Built {
    const LIMIT: usize = 2;
    let limit = Present::of(&node.input).get(LIMIT);
    let limit = limit.context("without max_output_boxes_per_class no box is selected; give it")?;
    let (tracts, closures) = builtin_expansion(context, node)?;
    Ok((expand(NonMaxSuppression { tracts, limit }), closures))
}

#[derive(Debug, Clone)]
struct NonMaxSuppression {
    tracts: Box<dyn Expansion>,
    limit: usize,
}

impl Expansion for NonMaxSuppression {
    fn name(&self) -> StaticName {
        self.tracts.as_ref().name()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.tracts.as_ref().rules(solver, inputs, outputs)
    }

    /// Lets tract have the limit + min(limit, 1) - 1: for 0 that is -1, which tract takes for what it is.
    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let limit = inputs[self.limit];
        let one = tensor0(1i64);
        let one = one.cast_to_dt(model.outlet_fact(limit)?.datum_type)?;
        let one = model.add_const(format!("{prefix}.one"), one.into_owned())?;
        let mut wire = |name: &str, operator, operands: &[OutletId]| {
            let name = format!("{prefix}.{name}");
            TractResult::Ok(wire_with_rank_broadcast(name, model, operator, operands)?[0])
        };
        let at_most_one = wire("at_most_one", min(), &[limit, one])?;
        let more = wire("more", add(), &[limit, at_most_one])?;
        let mut inputs: TVec<OutletId> = inputs.into();
        inputs[self.limit] = wire("limit", sub(), &[more, one])?;
        self.tracts.as_ref().wire(prefix, model, &inputs)
    }
}
