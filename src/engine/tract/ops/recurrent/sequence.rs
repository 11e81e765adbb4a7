//! One direction of a recurrent layer, over whole sequences.
//!
//! The inputs' products are taken once for all steps. A row whose sequence has ended keeps its state, its outputs
//! behind the end stay zero, and the reverse direction begins at each row's own end. A row without any step ends with
//! zeros, whatever it began with, as ONNX Runtime has it.

use tract_ndarray::{Array2, ArrayView3, ArrayViewMut3, s};
use tract_onnx::prelude::*;

use super::Real;
use super::cell::{Cell, State, Weights};

/// The rows' sequences, and from which end they are read.
pub struct Sequences<'a, T> {
    /// Steps, rows, features.
    pub x: ArrayView3<'a, T>,
    pub lengths: &'a [usize],
    pub reverse: bool,
}

impl<T: Real> Sequences<'_, T> {
    /// Runs the cell over the sequences, writes each step's hidden values to `y` and gives the last state.
    pub fn run(
        &self,
        cell: &Cell,
        weights: &Weights<T>,
        mut state: State<T>,
        mut y: Option<ArrayViewMut3<T>>,
    ) -> TractResult<State<T>> {
        let products = self.products(cell, weights)?;
        let rows = self.lengths.len();
        let mut gates = Array2::zeros((rows, products.ncols()));
        let steps = self.lengths.iter().copied().max().unwrap_or(0);
        for step in 0..steps {
            for (row, at) in self.at(step) {
                gates.row_mut(row).assign(&products.row(at * rows + row));
            }
            let next = cell.step(gates.view(), weights, &state);
            for (row, at) in self.at(step) {
                state.hidden.row_mut(row).assign(&next.hidden.row(row));
                state.cell.row_mut(row).assign(&next.cell.row(row));
                if let Some(y) = &mut y {
                    y.slice_mut(s![at, row, ..]).assign(&next.hidden.row(row));
                }
            }
        }
        for (row, _) in self
            .lengths
            .iter()
            .enumerate()
            .filter(|(_, length)| **length == 0)
        {
            state.hidden.row_mut(row).fill(T::zero());
            state.cell.row_mut(row).fill(T::zero());
        }
        Ok(state)
    }

    /// The rows whose sequences have a step `step`, and where in the sequence that is.
    fn at(&self, step: usize) -> impl Iterator<Item = (usize, usize)> {
        let rows = self.lengths.iter().copied().enumerate();
        rows.filter(move |(_, length)| *length > step)
            .map(move |(row, length)| match self.reverse {
                true => (row, length - 1 - step),
                false => (row, step),
            })
    }

    /// What the inputs and the biases add to the gates; the rows of each step lie together.
    fn products(&self, cell: &Cell, weights: &Weights<T>) -> TractResult<Array2<T>> {
        let (steps, rows, features) = self.x.dim();
        let x = self.x.as_standard_layout();
        let x = x.to_shape((steps * rows, features))?;
        let mut products = x.dot(&weights.input.t());
        if let Some(bias) = cell.early_bias(weights) {
            products += &bias;
        }
        Ok(products)
    }
}
