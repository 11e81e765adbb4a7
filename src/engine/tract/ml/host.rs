//! Lets tract run an operator of ours: one adapter for all of them.

use std::borrow::Cow;
use std::fmt;
use std::slice::ChunksExact;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::cast::cast;

/// A data type and a shape.
pub type Fact = (DatumType, TVec<TDim>);

/// A pure function of tensors.
pub trait Operator: fmt::Debug + Send + Sync + 'static {
    /// The operator's name in ONNX.
    fn name(&self) -> &'static str;

    /// How many outputs it has.
    fn outputs(&self) -> usize {
        1
    }

    /// How many inputs it needs at least.
    fn least_inputs(&self) -> usize {
        1
    }

    /// What comes out of inputs, at least one, of these types and shapes.
    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>>;

    /// Computes the outputs.
    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>>;
}

/// The adapter: an [`Operator`] as tract wants its operators.
#[derive(Debug, Clone)]
pub struct Host(Arc<dyn Operator>);

impl Host {
    /// The operator as a node of a graph that is being read.
    pub fn node(operator: impl Operator) -> Box<dyn InferenceOp> {
        expand(Host::of(Arc::new(operator)))
    }

    /// The operator for a graph that is being wired.
    pub fn of(operator: Arc<dyn Operator>) -> Host {
        Host(operator)
    }
}

impl PartialEq for Host {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Host {}

impl Expansion for Host {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.0.outputs())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        rules(self.0.clone(), solver, inputs, outputs)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let inputs = without_dimensions(prefix, model, inputs)?;
        model.wire_node(prefix, self.clone(), &inputs)
    }
}

/// The inputs with every dimension, which is tract's own type for what it takes for a shape, as the INT64 that it is.
fn without_dimensions(
    prefix: &str,
    model: &mut TypedModel,
    inputs: &[OutletId],
) -> TractResult<TVec<OutletId>> {
    let mut plain = tvec![];
    for (place, input) in inputs.iter().enumerate() {
        let is_dimension = model.outlet_fact(*input)?.datum_type.is_tdim();
        plain.push(match is_dimension {
            true => model.wire_node(
                format!("{prefix}.int64_{place}"),
                cast(i64::datum_type()),
                &[*input],
            )?[0],
            false => *input,
        });
    }
    Ok(plain)
}

/// The rules of an operator's types and shapes: known outputs once every input is.
pub fn rules<'r, 'p: 'r>(
    operator: Arc<dyn Operator>,
    solver: &mut Solver<'r>,
    inputs: &'p [TensorProxy],
    outputs: &'p [TensorProxy],
) -> InferenceResult {
    check_output_arity(outputs, operator.outputs())?;
    let (got, needed) = (inputs.len(), operator.least_inputs());
    ensure!(
        got >= needed,
        "the node has {got} inputs of at least {needed}"
    );
    let types = inputs.iter().map(|input| &input.datum_type);
    solver.given_all(types, move |solver, types| {
        let operator = operator.clone();
        let shapes = inputs.iter().map(|input| &input.shape);
        solver.given_all(shapes, move |solver, shapes| {
            let types = types.iter().map(|dtype| {
                if dtype.is_tdim() {
                    i64::datum_type()
                } else {
                    *dtype
                }
            });
            let facts: Vec<Fact> = types.zip(shapes).collect();
            for (output, (dtype, shape)) in outputs.iter().zip(operator.output_facts(&facts)?) {
                solver.equals(&output.datum_type, dtype)?;
                solver.equals(&output.shape, shape)?;
            }
            Ok(())
        })
    })
}

impl Op for Host {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Host {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.0.run(&inputs)
    }
}

impl TypedOp for Host {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let facts: Vec<Fact> = inputs
            .iter()
            .map(|input| (input.datum_type, input.shape.iter().cloned().collect()))
            .collect();
        let outputs = self.0.output_facts(&facts)?;
        Ok(outputs
            .into_iter()
            .map(|(dtype, shape)| dtype.fact(shape))
            .collect())
    }

    as_op!();
}

/// Whether the operators compute with this type.
pub fn is_number(dtype: DatumType) -> bool {
    [
        f32::datum_type(),
        f64::datum_type(),
        i64::datum_type(),
        i32::datum_type(),
    ]
    .contains(&dtype)
}

/// The rows of an input that has at least `needed` features in each; a bare list is one row.
pub fn rows_of_features(input: &Fact, needed: usize) -> TractResult<TDim> {
    let (dtype, shape) = input;
    ensure!(
        is_number(*dtype),
        "inputs of type {dtype:?} are not supported"
    );
    let (rows, features) = match shape.as_slice() {
        [features] => (1.to_dim(), features),
        [rows, features] => (rows.clone(), features),
        _ => bail!("the input has {} dimensions instead of 2", shape.len()),
    };
    if let Ok(features) = features.to_usize() {
        ensure!(
            features >= needed,
            "{needed} features are needed and the input has {features}"
        );
    }
    Ok(rows)
}

/// The rows of an input that has exactly this many features in each; a bare list is one row.
pub fn rows_of_exactly(input: &Fact, features: usize) -> TractResult<TDim> {
    let rows = rows_of_features(input, features)?;
    let got = input.1.last().and_then(|last| last.to_usize().ok());
    ensure!(
        got.is_none_or(|got| got == features),
        "{features} features are needed and the input has {}",
        got.unwrap_or_default()
    );
    Ok(rows)
}

/// The rows of an input of numbers as FP32, each of the same number of features.
pub struct Rows<'a> {
    values: Cow<'a, Tensor>,
    pub count: usize,
    features: usize,
}

impl<'a> Rows<'a> {
    /// Fails when a row of the input has another number of features, or none are asked for.
    pub fn read(input: &'a Tensor, features: usize) -> TractResult<Rows<'a>> {
        let count = row_count(input);
        ensure!(
            features > 0 && Some(input.len()) == count.checked_mul(features),
            "expected {features} features in each row, got shape {:?}",
            input.shape()
        );
        Ok(Rows {
            values: input.cast_to::<f32>()?,
            count,
            features,
        })
    }

    /// The rows, one after the other.
    pub fn each(&self) -> TractResult<ChunksExact<'_, f32>> {
        Ok(slice::<f32>(&self.values)?.chunks_exact(self.features))
    }
}

/// The elements of a tensor of this type.
pub fn slice<T: Datum>(tensor: &Tensor) -> TractResult<&[T]> {
    tensor.try_as_plain_ram()?.as_slice::<T>()
}

/// A tensor of these elements, as an operator gives it out.
pub fn output<T: Datum>(shape: &[usize], elements: Vec<T>) -> TractResult<TValue> {
    let array = tract_ndarray::ArrayD::from_shape_vec(shape, elements)?;
    Ok(array.into_tensor().into_tvalue())
}

/// The rows of a tensor; a bare list is one row.
pub fn row_count(input: &Tensor) -> usize {
    if input.rank() == 1 {
        1
    } else {
        input.shape()[0]
    }
}
