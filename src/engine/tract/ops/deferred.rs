//! Operators that take axes, sizes or shapes as inputs: known once those inputs are constants.

use std::fmt;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Host, Operator, rules};

type Build = dyn Fn(&[Arc<Tensor>]) -> TractResult<Arc<dyn Operator>> + Send + Sync;

/// An operator that is made when the values of some of its inputs are known.
#[derive(Clone)]
pub struct Deferred {
    name: &'static str,
    /// The places of those inputs.
    constants: Vec<usize>,
    build: Arc<Build>,
}

impl Deferred {
    /// A node of one output; `build` gets the values of the inputs at `constants`, in that order.
    pub fn node<O: Operator>(
        name: &'static str,
        constants: Vec<usize>,
        build: impl Fn(&[Arc<Tensor>]) -> TractResult<O> + Send + Sync + 'static,
    ) -> Box<dyn InferenceOp> {
        let build: Arc<Build> = Arc::new(move |values| Ok(Arc::new(build(values)?)));
        expand(Deferred {
            name,
            constants,
            build,
        })
    }
}

impl fmt::Debug for Deferred {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

impl Expansion for Deferred {
    fn name(&self) -> StaticName {
        self.name.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, 1)?;
        let missing = self.constants.iter().find(|place| **place >= inputs.len());
        ensure!(missing.is_none(), "the node has {} inputs", inputs.len());
        let values = self.constants.iter().map(|place| &inputs[*place].value);
        solver.given_all(values, move |solver, values| {
            rules((self.build)(&values)?, solver, inputs, outputs)
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let value = |place: &usize| {
            let fact = model.outlet_fact(inputs[*place])?;
            let value = fact.konst.clone();
            value.with_context(|| format!("input {place} must be a constant"))
        };
        let values = self.constants.iter().map(value);
        let operator = (self.build)(&values.collect::<TractResult<Vec<_>>>()?)?;
        Host::of(operator).wire(prefix, model, inputs)
    }
}

/// The whole numbers of a constant, whatever its type.
pub fn integers(constant: &Tensor) -> TractResult<Vec<i64>> {
    let constant = constant.cast_to::<i64>()?;
    let view = constant.to_plain_array_view::<i64>()?;
    Ok(view.iter().copied().collect())
}

/// An axis that may be counted from the end.
pub fn axis(axis: i64, rank: usize) -> TractResult<usize> {
    let positive = if axis < 0 { axis + rank as i64 } else { axis };
    let found = usize::try_from(positive).ok().filter(|axis| *axis < rank);
    found.with_context(|| format!("axis {axis} of an input with {rank} dimensions"))
}
