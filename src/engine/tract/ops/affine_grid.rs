//! AffineGrid: where the elements of an image lie behind an affine map, for GridSample.

use tract_ndarray::{Array3, Ix3};
use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Operator};
use super::deferred::{self, Deferred};
use super::pick::{elements, positions};

/// Registers the operator.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("AffineGrid", |_, node| {
        let align_corners = node.get_attr_opt::<i64>("align_corners")? == Some(1);
        let operator = Deferred::node("AffineGrid", vec![1], move |values| {
            let size = deferred::integers(&values[0])?;
            let size = size.iter().map(|length| usize::try_from(*length).ok());
            let size = size
                .collect::<Option<Vec<_>>>()
                .context("size holds a negative number")?;
            ensure!(
                [4, 5].contains(&size.len()),
                "size has {} entries",
                size.len()
            );
            elements(&size)?;
            Ok(AffineGrid {
                align_corners,
                spatial: size[2..].to_vec(),
            })
        });
        Ok((operator, vec![]))
    });
}

#[derive(Debug)]
struct AffineGrid {
    align_corners: bool,
    spatial: Vec<usize>,
}

impl AffineGrid {
    /// A place along an axis, from -1 to 1.
    fn coordinate(&self, at: usize, length: usize) -> f64 {
        match (self.align_corners, length) {
            // ONNX leaves it open; ONNX Runtime takes the end.
            (true, 1) => 1.0,
            (true, _) => 2.0 * at as f64 / (length - 1) as f64 - 1.0,
            (false, _) => (2.0 * at as f64 + 1.0) / length as f64 - 1.0,
        }
    }
}

impl Operator for AffineGrid {
    fn name(&self) -> &'static str {
        "AffineGrid"
    }

    fn least_inputs(&self) -> usize {
        2
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, maps) = &inputs[0];
        ensure!(
            dtype.is_float() && maps.len() == 3,
            "theta must be floats of three dimensions"
        );
        let rank = self.spatial.len();
        let lengths = self.spatial.iter().chain([&rank]);
        let lengths = lengths.map(|length| length.to_dim());
        Ok(vec![(
            *dtype,
            std::iter::once(maps[0].clone()).chain(lengths).collect(),
        )])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let maps = inputs[0].cast_to::<f64>()?;
        let maps = maps
            .to_plain_array_view::<f64>()?
            .into_dimensionality::<Ix3>()?;
        let rank = self.spatial.len();
        let (count, rows, columns) = maps.dim();
        ensure!(
            (rows, columns) == (rank, rank + 1),
            "theta has the shape {:?} for an image of {rank} dimensions",
            maps.shape()
        );
        let size = elements(&self.spatial)?;
        elements(&[count, size, rank])?;
        let mut grid = Array3::<f64>::zeros((count, size, rank));
        for (at, position) in positions(&self.spatial).enumerate() {
            // The last axis comes first in the map, and a 1 comes last.
            let places = position.iter().zip(&self.spatial).rev();
            let place = places.map(|(at, length)| self.coordinate(*at, *length));
            let place: Vec<f64> = place.chain([1.0]).collect();
            for (map, mut grid) in maps.outer_iter().zip(grid.outer_iter_mut()) {
                for (axis, row) in map.outer_iter().enumerate() {
                    grid[[at, axis]] = row.iter().zip(&place).map(|(one, other)| one * other).sum();
                }
            }
        }
        let shape = [&[count], self.spatial.as_slice(), &[rank]].concat();
        let grid = grid.into_shape_with_order(shape)?.into_tensor();
        let grid = grid.cast_to_dt(inputs[0].datum_type())?.into_owned();
        Ok(tvec![grid.into_tvalue()])
    }
}
