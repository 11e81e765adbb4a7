//! A recurrent layer as an operator: its attributes, and every direction's run.

use tract_ndarray::{Array2, Array3, Array4, ArrayView3, Axis, s};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::activation::Activation;
use super::cell::{Cell, State, Weights};
use super::inputs::{B, INITIAL_C, INITIAL_H, INPUTS, P, R, W, X};
use super::sequence::Sequences;
use super::{Kind, Real};
use crate::engine::tract::ml::host::{Fact, Operator};
use crate::engine::tract::ops::present::Present;

#[derive(Debug)]
pub struct Recurrent {
    /// For each direction whether it is the reverse one, and its cell.
    pub directions: Vec<(bool, Cell)>,
    pub batch_first: bool,
    pub inputs: Present,
    pub outputs: Present,
}

impl Recurrent {
    pub fn read(kind: Kind, node: &NodeProto) -> TractResult<Recurrent> {
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

    pub fn kind(&self) -> Kind {
        self.directions[0].1.kind
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
