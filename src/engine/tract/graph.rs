//! A model's graph as tract has read it, and the plans that are made from it: for any shape, or for given shapes and
//! given values.
//!
//! The file's value_info and output shapes are often stale and are left out; what the signature says about the
//! inputs is told to tract anew, with a symbol for every dynamic dimension.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::InferenceOp;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::ops::konst::Const;

use super::message::{self, Operators};
use super::{convert, known_wrong, ml, ops, proto, wide};
use crate::engine::{ADVICE, ModelSource};
use crate::error::{Error, Result, panic_text};
use crate::tensor::shape::Shape;
use crate::tensor::signature::{Dim, Signature, TensorSpec};
use crate::tensor::value::Tensor as WireTensor;

/// What a model's plans are made from. Its weights are shared with the plans where tract does not rearrange them.
pub struct Graph {
    model: InferenceModel,
    signature: Arc<Signature>,
    /// For each of the graph's inputs its place in the signature.
    places: Vec<usize>,
    weight_bytes: usize,
    has_wide_constants: bool,
    operators: Arc<Operators>,
}

/// A graph made ready to run.
#[derive(Debug)]
pub struct Plan {
    pub runnable: Arc<TypedRunnableModel>,
    /// The signature's inputs that the plan takes, in its order; the others are constants in it.
    pub takes: Vec<usize>,
    /// For telling what fails.
    pub operators: Arc<Operators>,
}

/// tract with our own operators.
fn framework() -> Onnx {
    let mut onnx = tract_onnx::onnx()
        .with_ignore_value_info(true)
        .with_ignore_output_shapes(true);
    ml::register(&mut onnx);
    ops::register(&mut onnx);
    known_wrong::register(&mut onnx);
    onnx
}

impl Graph {
    /// Reads a file; fails for operators that tract lacks or is known to answer wrongly.
    pub fn read(source: &ModelSource) -> Result<Graph> {
        let file = source.file()?;
        let framework = framework();
        message::refuse_unknown(file, |operator| {
            framework.op_register.0.contains_key(operator)
        })?;
        let proto = proto::read(&source.bytes, source.folder.as_deref())?;
        wide::refuse_wide_lengths(&proto)?;
        let operators = Operators::of(file);
        let refuse = |error: TractError| {
            let reason = operators.reason(&error);
            let message = format!("tract cannot run this model: {reason}; {ADVICE}");
            Error::unimplemented(message)
        };
        let model = framework.parse(&proto, None).map_err(refuse)?.model;
        let inputs = file.signature.inputs.iter().enumerate();
        let by_name: HashMap<_, _> = inputs
            .map(|(place, input)| (input.name.as_str(), place))
            .collect();
        let place = |outlet: &OutletId| {
            let name = &model.node(outlet.node).name;
            let place = by_name.get(name.as_str()).copied();
            place.ok_or_else(|| {
                Error::invalid(format!(
                    "the graph's input '{name}' is not among the file's inputs"
                ))
            })
        };
        let places = model.inputs.iter().map(place).collect::<Result<_>>()?;
        Ok(Graph {
            model,
            signature: Arc::new(file.signature.clone()),
            places,
            weight_bytes: proto::weight_bytes(&proto),
            has_wide_constants: wide::has_wide_constants(&proto),
            operators: Arc::new(operators),
        })
    }

    /// What the model takes and gives.
    pub fn signature(&self) -> &Arc<Signature> {
        &self.signature
    }

    /// About how many bytes a plan holds.
    pub fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    /// One plan for every shape that the signature allows.
    pub fn plan_for_any_shape(&self) -> Result<Plan, String> {
        self.guarded(|| self.with_symbols())
    }

    /// A plan for the shapes of these inputs; those that are `frozen` become constants of it.
    pub fn plan_for(&self, inputs: &[WireTensor], frozen: &[bool]) -> Result<Plan, String> {
        self.guarded(|| self.with_shapes(inputs, frozen))
    }

    /// tract panics on some graphs where it should fail; another way of running the model may still do.
    fn guarded(&self, make: impl FnOnce() -> TractResult<Plan>) -> Result<Plan, String> {
        match catch_unwind(AssertUnwindSafe(make)) {
            Ok(made) => made.map_err(|error| self.operators.reason(&error)),
            Err(panic) => Err(format!("tract panicked: {}", panic_text(&*panic))),
        }
    }

    fn with_symbols(&self) -> TractResult<Plan> {
        let is_symbolic = self.signature.inputs.iter().any(TensorSpec::is_dynamic);
        ensure!(
            !(is_symbolic && self.has_wide_constants),
            "{}",
            wide::REASON
        );
        let mut model = self.model.clone();
        let mut symbols = Symbols {
            shared_rows: self.signature.has_rows(),
            by_name: HashMap::new(),
        };
        for (index, place) in self.places.iter().enumerate() {
            let fact = symbols.input_fact(&model.symbols, &self.signature.inputs[*place])?;
            model.set_input_fact(index, fact)?;
        }
        self.plan(model, self.places.clone())
    }

    fn with_shapes(&self, inputs: &[WireTensor], frozen: &[bool]) -> TractResult<Plan> {
        let mut model = self.model.clone();
        let mut takes = Vec::new();
        let mut left = Vec::new();
        for (outlet, place) in self.model.inputs.iter().zip(&self.places) {
            let input = &inputs[*place];
            if frozen[*place] {
                let value = Arc::new(convert::input(input).map_err(TractError::msg)?);
                let fact = InferenceFact::try_from(value.clone())?;
                let node = model.node_mut(outlet.node);
                node.op = Box::new(Const::new(value)?) as Box<dyn InferenceOp>;
                model.set_outlet_fact(*outlet, fact)?;
            } else {
                model.set_outlet_fact(
                    *outlet,
                    fact(input.shape(), &self.signature.inputs[*place])?,
                )?;
                left.push(*outlet);
                takes.push(*place);
            }
        }
        model.inputs = left;
        self.plan(model, takes)
    }

    fn plan(&self, model: InferenceModel, takes: Vec<usize>) -> TractResult<Plan> {
        let typed = model.into_typed()?;
        wide::refuse_narrowing(&typed)?;
        let runnable = typed.into_optimized()?.into_runnable()?;
        let operators = self.operators.clone();
        Ok(Plan {
            runnable,
            takes,
            operators,
        })
    }
}

fn datum_type(spec: &TensorSpec) -> DatumType {
    convert::to_tract(spec.dtype)
}

fn fact(shape: &Shape, spec: &TensorSpec) -> TractResult<InferenceFact> {
    Ok(InferenceFact::dt_shape(datum_type(spec), shape.dims()))
}

/// The symbols of dynamic dimensions: one for each name, and one for the rows of a model that has them.
struct Symbols {
    shared_rows: bool,
    by_name: HashMap<String, Symbol>,
}

impl Symbols {
    fn input_fact(&mut self, scope: &SymbolScope, spec: &TensorSpec) -> TractResult<InferenceFact> {
        let Some(dims) = &spec.dims else {
            return Ok(InferenceFact::dt(datum_type(spec)));
        };
        let dims = dims.iter().enumerate().map(|(axis, dim)| match dim {
            Dim::Fixed(length) => length.to_dim(),
            Dim::Dynamic(name) => self.symbol(scope, spec, axis, name.as_deref()).into(),
        });
        Ok(InferenceFact::dt_shape(
            datum_type(spec),
            dims.collect::<TVec<TDim>>(),
        ))
    }

    fn symbol(
        &mut self,
        scope: &SymbolScope,
        spec: &TensorSpec,
        axis: usize,
        name: Option<&str>,
    ) -> Symbol {
        let key = match name {
            Some(name) => name.to_owned(),
            None if axis == 0 && self.shared_rows => "rows".to_owned(),
            None => format!("{}_{axis}", spec.name),
        };
        let symbol = || scope.new_with_prefix("n");
        self.by_name.entry(key).or_insert_with(symbol).clone()
    }
}
