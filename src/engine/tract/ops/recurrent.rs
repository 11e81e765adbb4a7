//! LSTM, GRU and RNN of our own, with every attribute: tract's ignore most of them, and the reverse direction.
//!
//! tract's loop is faster, and is taken where it computes the same.

mod activation;
mod cell;
mod fast;
mod inputs;
mod layer;
mod sequence;

use std::ops::AddAssign;
use std::sync::Arc;

use tract_ndarray::LinalgScalar;
use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use self::inputs::{R, X};
use self::layer::Recurrent;
use super::super::ml::host::{Host, Operator, rules};

/// Registers the operators; they replace tract's.
pub fn register(onnx: &mut Onnx) {
    let register = &mut onnx.op_register;
    register.insert("LSTM", |_, node| Layer::node(Kind::Lstm, node));
    register.insert("GRU", |_, node| Layer::node(Kind::Gru, node));
    register.insert("RNN", |_, node| Layer::node(Kind::Rnn, node));
}

/// A layer in a graph that is being read: tract's loop where it is plain, else our own operator.
#[derive(Debug, Clone)]
struct Layer(Arc<Recurrent>);

impl Layer {
    fn node(kind: Kind, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
        let layer = Layer(Arc::new(Recurrent::read(kind, node)?));
        Ok((expand(layer), vec![]))
    }
}

impl Expansion for Layer {
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
        let (x, r) = (model.outlet_fact(inputs[X])?, model.outlet_fact(inputs[R])?);
        match fast::is_plain(&self.0, x, r) {
            true => fast::wire(&self.0, prefix, model, inputs),
            false => Host::of(self.0.clone()).wire(prefix, model, inputs),
        }
    }
}

/// The floats that a layer computes with.
trait Real: Datum + tract_num_traits::Float + LinalgScalar + AddAssign {
    fn of(value: f32) -> Self;
}

impl Real for f32 {
    fn of(value: f32) -> f32 {
        value
    }
}

impl Real for f64 {
    fn of(value: f32) -> f64 {
        value.into()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Lstm,
    Gru,
    Rnn,
}

impl Kind {
    fn gates(self) -> usize {
        match self {
            Kind::Lstm => 4,
            Kind::Gru => 3,
            Kind::Rnn => 1,
        }
    }

    fn activations(self) -> &'static [&'static str] {
        match self {
            Kind::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Kind::Gru => &["Sigmoid", "Tanh"],
            Kind::Rnn => &["Tanh"],
        }
    }
}
