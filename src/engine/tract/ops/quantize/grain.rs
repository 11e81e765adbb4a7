//! Which elements share a scale and a zero point: all, those at one place of an axis, or a block along it.

use std::ops::Range;

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::super::ml::host::Fact;
use super::super::deferred::axis;
use super::{SCALE, ZERO};

/// The attributes that say how a scale's elements belong to those of the values.
#[derive(Debug)]
pub struct Grain {
    axis: i64,
    /// How many elements along the axis share a scale.
    block: Option<usize>,
}

/// Neighbouring elements of the values, and where their scales begin.
pub struct Run {
    pub elements: Range<usize>,
    pub scale: usize,
    /// Whether each element has a scale of its own, or all have the same.
    pub each: bool,
}

/// How values of one shape are cut into runs.
struct Layout {
    /// The values' dimensions: before the axis, the axis, behind it.
    outer: usize,
    length: usize,
    inner: usize,
    block: usize,
    /// How far scales lie apart in these dimensions; along the axis, from block to block.
    strides: [usize; 3],
}

/// Scales and zero points for values of one shape, as many of one as of the other.
pub struct Parameters {
    pub scales: Vec<f32>,
    pub zeros: Vec<i32>,
    layout: Layout,
}

impl Grain {
    pub fn of(node: &NodeProto) -> TractResult<Grain> {
        let block = node.get_attr_opt::<i64>("block_size")?.unwrap_or(0);
        let block = usize::try_from(block).ok();
        let block = block.context("block_size must not be negative")?;
        Ok(Grain {
            axis: node.get_attr_opt("axis")?.unwrap_or(1),
            block: (block > 0).then_some(block),
        })
    }

    /// Fails when the shapes are known and the scale or zero point does not fit the values.
    pub fn check(&self, inputs: &[Fact]) -> TractResult<()> {
        let shapes = inputs.iter().map(|(_, shape)| {
            let dims = shape.iter().map(|dim| dim.to_usize().ok());
            dims.collect::<Option<TVec<usize>>>()
        });
        match shapes.collect::<Option<Vec<_>>>() {
            Some(shapes) => {
                let shapes: Vec<&[usize]> = shapes.iter().map(|shape| shape.as_slice()).collect();
                self.layout(&shapes).map(|_| ())
            }
            None => Ok(()),
        }
    }

    /// For the inputs of these shapes.
    fn layout(&self, shapes: &[&[usize]]) -> TractResult<Layout> {
        let (values, scale) = (shapes[0], shapes[SCALE]);
        if let Some(zero) = shapes.get(ZERO) {
            let one = |shape: &[usize]| shape.is_empty() || shape == [1];
            ensure!(
                *zero == scale || one(zero) && one(scale),
                "the zero point's shape is {zero:?} and the scale's is {scale:?}"
            );
        }
        match self.block {
            None if scale.is_empty() || scale == [1] => Ok(Layout::of_one(values)),
            None => self.by_axis(values, scale),
            Some(block) => self.by_block(values, scale, block),
        }
    }

    fn by_axis(&self, values: &[usize], scale: &[usize]) -> TractResult<Layout> {
        ensure!(
            scale.len() == 1,
            "a scale of shape {scale:?} needs a block_size"
        );
        let axis = axis(self.axis, values.len())?;
        ensure!(
            scale == [values[axis]],
            "the scale has {} elements for {} along axis {axis}",
            scale[0],
            values[axis]
        );
        Ok(Layout::around(axis, values, 1, [0, 1, 0]))
    }

    fn by_block(&self, values: &[usize], scale: &[usize], block: usize) -> TractResult<Layout> {
        let axis = axis(self.axis, values.len())?;
        let mut wanted = values.to_vec();
        wanted[axis] = values[axis].div_ceil(block);
        ensure!(
            scale == wanted,
            "values of shape {values:?} in blocks of {block} along axis {axis} need a scale of shape {wanted:?}, not {scale:?}"
        );
        let strides = [count(&wanted[axis..]), count(&wanted[axis + 1..]), 1];
        Ok(Layout::around(axis, values, block, strides))
    }
}

/// How many elements these dimensions have. A declared shape may be of any size, and is only compared.
fn count(dims: &[usize]) -> usize {
    dims.iter().fold(1, |count, dim| count.saturating_mul(*dim))
}

impl Layout {
    fn of_one(values: &[usize]) -> Layout {
        Layout {
            outer: 1,
            length: 1,
            inner: count(values),
            block: 1,
            strides: [0; 3],
        }
    }

    fn around(axis: usize, values: &[usize], block: usize, strides: [usize; 3]) -> Layout {
        Layout {
            outer: count(&values[..axis]),
            length: values[axis],
            inner: count(&values[axis + 1..]),
            block,
            strides,
        }
    }

    fn runs(&self) -> impl Iterator<Item = Run> {
        let Layout {
            outer,
            length,
            inner,
            block,
            strides: [by_outer, by_block, by_inner],
        } = *self;
        // Along the last axis a run may be a block, or all of the axis if there are none.
        let (step, each) = match (inner, block) {
            (1, 1) => (length, by_block == 1),
            (1, _) => (block, false),
            _ => (1, by_inner == 1),
        };
        let empty = length == 0 || inner == 0;
        let rows = 0..if empty { 0 } else { outer };
        rows.flat_map(move |row| {
            let starts = (0..length).step_by(step.max(1));
            starts.map(move |start| {
                let end = length.min(start.saturating_add(step));
                Run {
                    elements: (row * length + start) * inner..(row * length + end) * inner,
                    scale: row * by_outer + start / block * by_block,
                    each,
                }
            })
        })
    }
}

impl Parameters {
    /// From an operator's inputs; fails when they do not fit.
    pub fn of(grain: &Grain, inputs: &[TValue]) -> TractResult<Parameters> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape()).collect();
        let layout = grain.layout(&shapes)?;
        let scales = inputs[SCALE].cast_to::<f32>()?;
        let scales = scales.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
        let zeros = match inputs.get(ZERO) {
            None => vec![0; scales.len()],
            Some(zeros) => {
                let zeros = zeros.cast_to::<i32>()?;
                zeros.try_as_plain_ram()?.as_slice::<i32>()?.to_vec()
            }
        };
        Ok(Parameters {
            scales,
            zeros,
            layout,
        })
    }

    /// For values of this shape that share one scale and one zero point.
    pub fn one(scale: f32, zero: i32, values: &[usize]) -> Parameters {
        Parameters {
            scales: vec![scale],
            zeros: vec![zero],
            layout: Layout::of_one(values),
        }
    }

    /// Computes every element of the output from that of the values, its scale and its zero point.
    pub fn apply<T: Copy, U>(
        &self,
        values: &[T],
        output: &mut [U],
        compute: impl Fn(T, f32, i32) -> U,
    ) {
        for Run {
            elements,
            scale,
            each,
        } in self.layout.runs()
        {
            let pairs = values[elements.clone()].iter().zip(&mut output[elements]);
            if each {
                let parameters = self.scales[scale..].iter().zip(&self.zeros[scale..]);
                for ((value, output), (scale, zero)) in pairs.zip(parameters) {
                    *output = compute(*value, *scale, *zero);
                }
            } else {
                let (scale, zero) = (self.scales[scale], self.zeros[scale]);
                for (value, output) in pairs {
                    *output = compute(*value, scale, zero);
                }
            }
        }
    }
}
