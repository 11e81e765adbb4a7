//! A recurrent layer's inputs: where they stand, and that their shapes belong together.

use tract_ndarray::{ArrayView1, ArrayView3, Axis, Ix1, Ix3};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::Real;
use super::layer::Recurrent;
use crate::engine::tract::ml::host::Fact;

/// The inputs by their positions.
pub const X: usize = 0;
pub const W: usize = 1;
pub const R: usize = 2;
pub const B: usize = 3;
pub const SEQUENCE_LENS: usize = 4;
pub const INITIAL_H: usize = 5;
pub const INITIAL_C: usize = 6;
pub const P: usize = 7;
pub const INPUTS: [&str; 8] = [
    "X",
    "W",
    "R",
    "B",
    "sequence_lens",
    "initial_h",
    "initial_c",
    "P",
];

impl Recurrent {
    /// An input as it is defined for layout 0; `dims` are what the others make necessary.
    pub fn input<'a, T: Real>(
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
    pub fn row_of_direction<'a, T: Real>(
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
    pub fn check(
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

    pub fn lengths(&self, inputs: &[TValue], steps: usize, rows: usize) -> TractResult<Vec<usize>> {
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
}
