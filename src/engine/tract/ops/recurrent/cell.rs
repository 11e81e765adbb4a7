//! What a recurrent layer computes at one step, for all rows at once.

use tract_ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};
use tract_onnx::prelude::*;

use super::activation::Activation;
use super::{Kind, Real};

/// The layer's formula.
#[derive(Debug)]
pub struct Cell {
    pub kind: Kind,
    /// As many as the kind has.
    pub activations: Vec<Activation>,
    /// The bound of what goes into an activation function.
    pub clip: Option<f32>,
    pub linear_before_reset: bool,
    pub input_forget: bool,
}

/// The weights of one direction; the gates lie one behind the other.
pub struct Weights<'a, T> {
    pub input: ArrayView2<'a, T>,
    pub recurrent: ArrayView2<'a, T>,
    pub bias: Option<(ArrayView1<'a, T>, ArrayView1<'a, T>)>,
    pub peepholes: Option<ArrayView1<'a, T>>,
}

/// The hidden values of each row; of an LSTM also its cells'.
#[derive(Clone)]
pub struct State<T> {
    pub hidden: Array2<T>,
    pub cell: Array2<T>,
}

impl Cell {
    pub fn has_default_activations(&self) -> bool {
        let (names, none) = (self.kind.activations(), &[]);
        let defaults = names.iter().map(|name| name.to_string());
        let defaults = Activation::read_all(&defaults.collect::<Vec<_>>(), none, none);
        defaults.is_ok_and(|defaults| defaults == self.activations)
    }

    /// The bias that is added to the inputs' products before anything else.
    pub fn early_bias<T: Real>(&self, weights: &Weights<T>) -> Option<tract_ndarray::Array1<T>> {
        let (input, recurrent) = weights.bias?;
        let late = match self.late_bias(weights) {
            Some(late) => late.len(),
            None => 0,
        };
        let mut bias = input.to_owned();
        let early = recurrent.len() - late;
        let mut shared = bias.slice_mut(s![..early]);
        shared += &recurrent.slice(s![..early]);
        Some(bias)
    }

    /// The recurrent bias of a GRU's candidate, where the reset gate scales it.
    fn late_bias<'a, T: Real>(&self, weights: &Weights<'a, T>) -> Option<ArrayView1<'a, T>> {
        let (_, recurrent) = weights.bias?;
        let is_late = self.kind == Kind::Gru && self.linear_before_reset;
        is_late.then(|| recurrent.split_at(Axis(0), recurrent.len() / 3 * 2).1)
    }

    /// The state behind a step; `gates` are the inputs' products and early biases.
    pub fn step<T: Real>(
        &self,
        gates: ArrayView2<T>,
        weights: &Weights<T>,
        state: &State<T>,
    ) -> State<T> {
        match self.kind {
            Kind::Lstm => self.lstm(gates, weights, state),
            Kind::Gru => self.gru(gates, weights, state),
            Kind::Rnn => {
                let sum = product(&state.hidden, weights.recurrent) + gates;
                State {
                    hidden: self.activate(0, sum),
                    cell: state.cell.clone(),
                }
            }
        }
    }

    fn lstm<T: Real>(
        &self,
        gates: ArrayView2<T>,
        weights: &Weights<T>,
        state: &State<T>,
    ) -> State<T> {
        let gates = product(&state.hidden, weights.recurrent) + gates;
        let width = state.hidden.ncols();
        let gate = |index| block(&gates, index, width);
        let peephole = |index: usize, cell: &Array2<T>| {
            let peepholes = weights.peepholes?;
            Some(cell * &peepholes.slice(s![index * width..(index + 1) * width]))
        };
        let seeing = |index, cell: &Array2<T>| match peephole(index, cell) {
            Some(seen) => gate(index) + seen,
            None => gate(index),
        };
        let input = self.activate(0, seeing(0, &state.cell));
        let forget = match self.input_forget {
            true => input.mapv(|input| T::one() - input),
            false => self.activate(0, seeing(2, &state.cell)),
        };
        let cell = forget * &state.cell + input * self.activate(1, gate(3));
        let mut hidden = cell.clone();
        // As in ONNX Runtime, this one is not clipped.
        self.activations[2].apply(&mut hidden);
        hidden = hidden * self.activate(0, seeing(1, &cell));
        State { hidden, cell }
    }

    fn gru<T: Real>(
        &self,
        gates: ArrayView2<T>,
        weights: &Weights<T>,
        state: &State<T>,
    ) -> State<T> {
        let width = state.hidden.ncols();
        let (early, candidate) = weights.recurrent.split_at(Axis(0), 2 * width);
        let early = product(&state.hidden, early) + gates.slice(s![.., ..2 * width]);
        let update = self.activate(0, block(&early, 0, width));
        let reset = self.activate(0, block(&early, 1, width));
        let recurrent = match self.linear_before_reset {
            true => {
                let product = product(&state.hidden, candidate);
                reset
                    * match self.late_bias(weights) {
                        Some(bias) => product + bias,
                        None => product,
                    }
            }
            false => product(&(reset * &state.hidden), candidate),
        };
        let candidate = self.activate(1, recurrent + gates.slice(s![.., 2 * width..]));
        State {
            // Not rearranged to one product: the difference would lose the digits of small values.
            hidden: update.mapv(|update| T::one() - update) * candidate + update * &state.hidden,
            cell: state.cell.clone(),
        }
    }

    fn activate<T: Real>(&self, function: usize, mut values: Array2<T>) -> Array2<T> {
        if let Some(bound) = self.clip.map(T::of) {
            values.mapv_inplace(|value| value.max(-bound).min(bound));
        }
        self.activations[function].apply(&mut values);
        values
    }
}

/// A gate's columns.
fn block<T: Real>(gates: &Array2<T>, index: usize, width: usize) -> Array2<T> {
    gates
        .slice(s![.., index * width..(index + 1) * width])
        .to_owned()
}

/// `values · weightsᵀ`. A single row goes the way of vectors, which does not pack the weights anew at each step.
fn product<T: Real>(values: &Array2<T>, weights: ArrayView2<T>) -> Array2<T> {
    if values.nrows() == 1 {
        return weights.dot(&values.row(0)).insert_axis(Axis(0));
    }
    values.dot(&weights.t())
}
