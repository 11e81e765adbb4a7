//! Shape of our own: whole numbers where the shape is known, dimensions only where it is not.
//!
//! tract's always gives its dimensions, and what meets them in arithmetic becomes one and loses all but 32 bits.

use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

/// Registers the operator.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("Shape", |_, node| {
        let shape = Shape {
            start: node.get_attr_opt("start")?.unwrap_or(0),
            end: node.get_attr_opt("end")?,
        };
        Ok((expand(shape), vec![]))
    });
}

/// The dimensions of its input from `start` to before `end`, which may count from the last.
#[derive(Debug, Clone)]
struct Shape {
    start: i64,
    end: Option<i64>,
}

impl Shape {
    fn of(&self, shape: &[TDim]) -> Arc<Tensor> {
        let rank = shape.len() as i64;
        let place = |axis: i64| {
            let axis = if axis < 0 {
                axis.saturating_add(rank)
            } else {
                axis
            };
            axis.clamp(0, rank) as usize
        };
        let (start, end) = (place(self.start), place(self.end.unwrap_or(rank)));
        let chosen = shape.get(start..end).unwrap_or_default();
        let known: Result<Vec<i64>, _> = chosen.iter().map(TDim::to_i64).collect();
        let chosen = known.map_or_else(|_| tensor1(chosen), |known| tensor1(&known));
        chosen.into_arc_tensor()
    }
}

impl Expansion for Shape {
    fn name(&self) -> StaticName {
        "Shape".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        solver.equals(&outputs[0].rank, 1)?;
        solver.given(&inputs[0].shape, move |solver, shape| {
            solver.equals(&outputs[0].value, self.of(&shape))
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let shape = self.of(&model.outlet_fact(inputs[0])?.shape.to_tvec());
        Ok(tvec![model.add_const(prefix, shape)?])
    }
}
