//! LSTM, GRU and RNN of our own, with every attribute: tract's ignore most of them, and the reverse direction.
//!
//! tract's loop is faster, and is taken where it computes the same.

mod activation;
mod cell;
mod fast;
mod sequence;

use std::ops::AddAssign;
use std::sync::Arc;

use tract_ndarray::{
    Array2, Array3, Array4, ArrayView1, ArrayView3, Axis, Ix1, Ix3, LinalgScalar, s,
};
use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use self::activation::Activation;
use self::cell::{Cell, State, Weights};
use self::sequence::Sequences;
use super::super::ml::host::{Fact, Host, Operator, rules};
use super::present::Present;

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
            false => model.wire_node(prefix, Host::of(self.0.clone()), inputs),
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

/// The inputs by their positions.
const X: usize = 0;
const W: usize = 1;
const R: usize = 2;
const B: usize = 3;
const SEQUENCE_LENS: usize = 4;
const INITIAL_H: usize = 5;
const INITIAL_C: usize = 6;
const P: usize = 7;
const INPUTS: [&str; 8] = [
    "X",
    "W",
    "R",
    "B",
    "sequence_lens",
    "initial_h",
    "initial_c",
    "P",
];

#[derive(Debug)]
struct Recurrent {
    /// For each direction whether it is the reverse one, and its cell.
    directions: Vec<(bool, Cell)>,
    batch_first: bool,
    inputs: Present,
    outputs: Present,
}

impl Recurrent {
    fn read(kind: Kind, node: &NodeProto) -> TractResult<Recurrent> {
        let inputs = Present::of(&node.input);
        for required in [X, W, R] {
            let name = INPUTS[required];
            ensure!(inputs.get(required).is_some(), "input {name} is missing");
        }
        ensure!(inputs.count() <= INPUTS.len(), "there are too many inputs");
        let reverse = match node.get_attr_opt("direction")?.unwrap_or("forward") {
            "forward" => vec![false],
            "reverse" => vec![true],
            "bidirectional" => vec![false, true],
            other => bail!("direction '{other}' is not known"),
        };
        let each = kind.activations().len();
        let functions = activations(kind, reverse.len(), node)?;
        let cell = |functions: &[Activation]| {
            let flag = |name| Ok::<_, TractError>(node.get_attr_opt::<i64>(name)? == Some(1));
            Ok::<_, TractError>(Cell {
                kind,
                activations: functions.to_vec(),
                clip: node.get_attr_opt("clip")?,
                linear_before_reset: flag("linear_before_reset")?,
                input_forget: flag("input_forget")?,
            })
        };
        let cells = functions.chunks(each).map(cell);
        Ok(Recurrent {
            directions: reverse
                .into_iter()
                .zip(cells)
                .map(|(reverse, cell)| Ok((reverse, cell?)))
                .collect::<TractResult<_>>()?,
            batch_first: node.get_attr_opt::<i64>("layout")? == Some(1),
            inputs,
            outputs: Present::of(&node.output),
        })
    }

    fn kind(&self) -> Kind {
        self.directions[0].1.kind
    }

    /// An input as it is defined for layout 0; `dims` are what the others make necessary.
    fn input<'a, T: Real>(
        &self,
        inputs: &'a [TValue],
        position: usize,
        dims: [usize; 3],
    ) -> TractResult<Option<ArrayView3<'a, T>>> {
        let Some(place) = self.inputs.get(position) else {
            return Ok(None);
        };
        let view = inputs[place].to_plain_array_view::<T>()?;
        let view = view.into_dimensionality::<Ix3>()?;
        let view = match self.batch_first && ![W, R].contains(&position) {
            true => view.permuted_axes([1, 0, 2]),
            false => view,
        };
        let (name, got) = (INPUTS[position], view.shape());
        ensure!(
            got == dims,
            "{name} has the shape {got:?} instead of {dims:?}"
        );
        Ok(Some(view))
    }

    /// An input of one row for each direction.
    fn row_of_direction<'a, T: Real>(
        &self,
        inputs: &'a [TValue],
        position: usize,
        (direction, length): (usize, usize),
    ) -> TractResult<Option<ArrayView1<'a, T>>> {
        let Some(place) = self.inputs.get(position) else {
            return Ok(None);
        };
        let view = inputs[place].to_plain_array_view::<T>()?;
        let (name, got) = (INPUTS[position], view.shape());
        let dims = [self.directions.len(), length];
        ensure!(
            got == dims,
            "{name} has the shape {got:?} instead of {dims:?}"
        );
        let row = view.index_axis_move(Axis(0), direction);
        Ok(Some(row.into_dimensionality::<Ix1>()?))
    }

    /// Compares what is known of the inputs' shapes with what they must be.
    fn check(
        &self,
        inputs: &[Fact],
        [count, rows, features, width]: [&TDim; 4],
    ) -> TractResult<()> {
        let gates = width.clone() * self.kind().gates();
        let state = match self.batch_first {
            true => vec![rows.clone(), count.clone(), width.clone()],
            false => vec![count.clone(), rows.clone(), width.clone()],
        };
        for position in self.inputs.positions().filter(|position| *position != X) {
            let expected = match position {
                W => vec![count.clone(), gates.clone(), features.clone()],
                R => vec![count.clone(), gates.clone(), width.clone()],
                B => vec![count.clone(), gates.clone() * 2],
                SEQUENCE_LENS => vec![rows.clone()],
                P => vec![count.clone(), width.clone() * 3],
                _ => state.clone(),
            };
            let place = self.inputs.get(position);
            let (_, got) = &inputs[place.context("it is among those that are there")?];
            let name = INPUTS[position];
            let differ = |(got, expected): (&TDim, &TDim)| matches!((got.to_usize(), expected.to_usize()), (Ok(got), Ok(expected)) if got != expected);
            ensure!(
                got.len() == expected.len() && !got.iter().zip(&expected).any(differ),
                "{name} has the shape {got:?} instead of {expected:?}"
            );
        }
        Ok(())
    }

    fn lengths(&self, inputs: &[TValue], steps: usize, rows: usize) -> TractResult<Vec<usize>> {
        let Some(place) = self.inputs.get(SEQUENCE_LENS) else {
            return Ok(vec![steps; rows]);
        };
        let lengths = inputs[place].cast_to::<i64>()?;
        let lengths = lengths.to_plain_array_view::<i64>()?;
        ensure!(
            lengths.shape() == [rows],
            "sequence_lens has the shape {:?} instead of [{rows}]",
            lengths.shape()
        );
        let length = |length: &i64| match usize::try_from(*length) {
            Ok(length) if length <= steps => Ok(length),
            _ => bail!("sequence_lens holds {length}, and the sequences have {steps} steps"),
        };
        lengths.iter().map(length).collect()
    }

    fn compute<T: Real>(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let dims = |position: usize| -> TractResult<[usize; 3]> {
            let place = self.inputs.get(position);
            let shape = place.map(|place| inputs[place].shape());
            let shape = shape.and_then(|shape| shape.try_into().ok());
            shape.with_context(|| format!("{} has not three dimensions", INPUTS[position]))
        };
        let [mut steps, mut rows, features] = dims(X)?;
        if self.batch_first {
            (steps, rows) = (rows, steps);
        }
        let [_, _, width] = dims(R)?;
        let (count, gates) = (self.directions.len(), self.kind().gates());
        let needed = "X, W and R were read as required";
        let x = self.input::<T>(inputs, X, [steps, rows, features])?;
        let x = x.expect(needed);
        let w = self.input::<T>(inputs, W, [count, gates * width, features])?;
        let r = self.input::<T>(inputs, R, [count, gates * width, width])?;
        let (w, r) = (w.expect(needed), r.expect(needed));
        let initial_h = self.input::<T>(inputs, INITIAL_H, [count, rows, width])?;
        let initial_c = self.input::<T>(inputs, INITIAL_C, [count, rows, width])?;
        let lengths = self.lengths(inputs, steps, rows)?;
        let start = |initial: &Option<ArrayView3<T>>, direction| match initial {
            Some(initial) => initial.index_axis(Axis(0), direction).to_owned(),
            None => Array2::zeros((rows, width)),
        };
        let y = self.outputs.get(0);
        let mut y = y.map(|_| Array4::<T>::zeros((steps, count, rows, width)));
        let mut last_h = Array3::<T>::zeros((count, rows, width));
        let mut last_c = last_h.clone();
        for (direction, (reverse, cell)) in self.directions.iter().enumerate() {
            let bias = (direction, 2 * gates * width);
            let bias = self.row_of_direction(inputs, B, bias)?;
            let weights = Weights {
                input: w.index_axis(Axis(0), direction),
                recurrent: r.index_axis(Axis(0), direction),
                bias: bias.map(|bias| bias.split_at(Axis(0), gates * width)),
                peepholes: self.row_of_direction(inputs, P, (direction, 3 * width))?,
            };
            let state = State {
                hidden: start(&initial_h, direction),
                cell: start(&initial_c, direction),
            };
            let sequences = Sequences {
                x: x.view(),
                lengths: &lengths,
                reverse: *reverse,
            };
            let y = y.as_mut().map(|y| y.slice_mut(s![.., direction, .., ..]));
            let last = sequences.run(cell, &weights, state, y)?;
            last_h
                .index_axis_mut(Axis(0), direction)
                .assign(&last.hidden);
            last_c.index_axis_mut(Axis(0), direction).assign(&last.cell);
        }
        let outputs = self.outputs.positions().map(|output| match output {
            0 => self.in_layout(
                y.take().expect("it was asked for").into_dyn(),
                &[2, 0, 1, 3],
            ),
            1 => self.in_layout(std::mem::take(&mut last_h).into_dyn(), &[1, 0, 2]),
            _ => self.in_layout(std::mem::take(&mut last_c).into_dyn(), &[1, 0, 2]),
        });
        Ok(outputs.collect())
    }

    /// An output with its axes in the order that the layout asks for.
    fn in_layout<T: Real>(&self, output: tract_ndarray::ArrayD<T>, axes: &[usize]) -> TValue {
        match self.batch_first {
            true => output.permuted_axes(axes).into_tensor().into_tvalue(),
            false => output.into_tensor().into_tvalue(),
        }
    }
}

/// Every direction's functions, one behind the other.
fn activations(kind: Kind, directions: usize, node: &NodeProto) -> TractResult<Vec<Activation>> {
    let defaults = kind.activations();
    let names: Option<Vec<String>> = node.get_attr_opt_vec("activations")?;
    let defaults = || defaults.iter().map(|name| name.to_string());
    let names = names.unwrap_or_else(|| {
        std::iter::repeat_with(defaults)
            .take(directions)
            .flatten()
            .collect()
    });
    ensure!(
        names.len() == directions * kind.activations().len(),
        "activations has {} entries instead of {}",
        names.len(),
        directions * kind.activations().len()
    );
    let floats = |name| node.get_attr_opt_vec::<f32>(name);
    let alphas = floats("activation_alpha")?.unwrap_or_default();
    let betas = floats("activation_beta")?.unwrap_or_default();
    Activation::read_all(&names, &alphas, &betas)
}

impl Operator for Recurrent {
    fn name(&self) -> &'static str {
        match self.kind() {
            Kind::Lstm => "LSTM",
            Kind::Gru => "GRU",
            Kind::Rnn => "RNN",
        }
    }

    fn outputs(&self) -> usize {
        self.outputs.count()
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, x) = &inputs[X];
        ensure!(
            dtype.is_float(),
            "inputs of type {dtype:?} are not supported"
        );
        let (_, r) = &inputs[R];
        ensure!(
            x.len() == 3 && r.len() == 3,
            "X and R must have three dimensions"
        );
        let (steps, rows, width) = match self.batch_first {
            true => (&x[1], &x[0], &r[2]),
            false => (&x[0], &x[1], &r[2]),
        };
        let count = &self.directions.len().to_dim();
        self.check(inputs, [count, rows, &x[2], width])?;
        let shape = |output| match (output, self.batch_first) {
            (0, false) => tvec![steps, count, rows, width],
            (0, true) => tvec![rows, steps, count, width],
            (_, false) => tvec![count, rows, width],
            (_, true) => tvec![rows, count, width],
        };
        let outputs = self.outputs.positions();
        let fact = |output| (*dtype, shape(output).into_iter().cloned().collect());
        Ok(outputs.map(fact).collect())
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        match inputs[X].datum_type() {
            DatumType::F64 => self.compute::<f64>(inputs),
            DatumType::F32 => self.compute::<f32>(inputs),
            dtype => {
                let wide = inputs
                    .iter()
                    .map(|input| match input.datum_type().is_float() {
                        true => Ok(input.cast_to::<f32>()?.into_owned().into_tvalue()),
                        false => Ok(input.clone()),
                    });
                let outputs = self.compute::<f32>(&wide.collect::<TractResult<Vec<_>>>()?)?;
                let narrow = outputs
                    .iter()
                    .map(|output| Ok(output.cast_to_dt(dtype)?.into_owned().into_tvalue()));
                narrow.collect()
            }
        }
    }
}
