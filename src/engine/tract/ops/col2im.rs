//! Col2Im: adds blocks, one a column, back into an image.

use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Operator};
use super::deferred::{self, Deferred};
use super::pick::{elements, number, positions};

/// Registers the operator.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register
        .insert("Col2Im", |_, node| Ok((read(node)?, vec![])));
}

fn sizes(values: &[i64]) -> TractResult<Vec<usize>> {
    let size = |value: &i64| usize::try_from(*value).ok().filter(|size| *size < 1 << 24);
    let sizes = values.iter().map(size).collect::<Option<Vec<_>>>();
    sizes.with_context(|| format!("{values:?} are no sizes"))
}

fn read(node: &NodeProto) -> TractResult<Box<dyn InferenceOp>> {
    let list = |name| -> TractResult<Option<Vec<usize>>> {
        let values: Option<Vec<i64>> = node.get_attr_opt_vec(name)?;
        values.map(|values| sizes(&values)).transpose()
    };
    let (strides, dilations, pads) = (list("strides")?, list("dilations")?, list("pads")?);
    Ok(Deferred::node("Col2Im", vec![1, 2], move |values| {
        let image = sizes(&deferred::integers(&values[0])?)?;
        let block = sizes(&deferred::integers(&values[1])?)?;
        let rank = image.len();
        let or = |list: &Option<Vec<usize>>, value, length| {
            let list = list.clone().unwrap_or_else(|| vec![value; length]);
            ensure!(
                list.len() == length,
                "an attribute has {} entries instead of {length}",
                list.len()
            );
            Ok(list)
        };
        let operator = Col2Im {
            strides: or(&strides, 1, rank)?,
            dilations: or(&dilations, 1, rank)?,
            pads: or(&pads, 0, 2 * rank)?,
            image,
            block,
        };
        let positive = operator
            .strides
            .iter()
            .chain(&operator.block)
            .all(|size| *size > 0);
        ensure!(
            positive && operator.block.len() == rank,
            "block_shape and image_shape do not belong together"
        );
        Ok(operator)
    }))
}

#[derive(Debug)]
struct Col2Im {
    image: Vec<usize>,
    block: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<usize>,
}

impl Col2Im {
    /// How many blocks lie along each axis.
    fn blocks(&self) -> TractResult<Vec<usize>> {
        let rank = self.image.len();
        let along = |axis: usize| {
            let room = self.image[axis] + self.pads[axis] + self.pads[axis + rank];
            let reach = self.dilations[axis] * (self.block[axis] - 1) + 1;
            let room = room
                .checked_sub(reach)
                .context("a block does not fit into the image")?;
            Ok(room / self.strides[axis] + 1)
        };
        (0..rank).map(along).collect()
    }

    /// Where an element of a block lies in the image; not, if in the padding.
    fn place(&self, block: &[usize], element: &[usize]) -> Option<usize> {
        let along = |axis: usize| {
            let at = block[axis] * self.strides[axis] + element[axis] * self.dilations[axis];
            at.checked_sub(self.pads[axis])
                .filter(|at| *at < self.image[axis])
        };
        let place: Option<Vec<usize>> = (0..self.image.len()).map(along).collect();
        Some(number(&place?, &self.image))
    }
}

impl Operator for Col2Im {
    fn name(&self) -> &'static str {
        "Col2Im"
    }

    fn least_inputs(&self) -> usize {
        3
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        ensure!(
            dtype.is_float(),
            "inputs of type {dtype:?} are not supported"
        );
        ensure!(
            shape.len() == 3,
            "the input has {} dimensions instead of 3",
            shape.len()
        );
        let block = elements(&self.block)?;
        let channels = shape[1]
            .to_usize()
            .context("the second dimension must be fixed")?;
        ensure!(
            channels % block == 0,
            "{channels} rows do not hold blocks of {block} elements"
        );
        let outer = [shape[0].clone(), (channels / block).to_dim()];
        let image = self.image.iter().map(|length| length.to_dim());
        Ok(vec![(*dtype, outer.into_iter().chain(image).collect())])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let columns = inputs[0].cast_to::<f64>()?;
        let columns = columns.to_plain_array_view::<f64>()?;
        let block = elements(&self.block)?;
        let size = elements(&self.image)?;
        let [images, rows, count] = inputs[0].shape() else {
            bail!("the input has {} dimensions instead of 3", inputs[0].rank());
        };
        let blocks = self.blocks()?;
        let needed = elements(&blocks)?;
        ensure!(
            needed == *count,
            "there are {count} columns instead of {needed}"
        );
        let channels = rows / block;
        let mut output = vec![0.0; elements(&[*images, channels, size])?];
        for (at, place_of_block) in positions(&blocks).enumerate() {
            for (element, within) in positions(&self.block).enumerate() {
                let Some(place) = self.place(&place_of_block, &within) else {
                    continue;
                };
                for image in 0..*images {
                    for channel in 0..channels {
                        let from = [image, channel * block + element, at];
                        output[(image * channels + channel) * size + place] += columns[from];
                    }
                }
            }
        }
        let shape: Vec<usize> = [*images, channels]
            .into_iter()
            .chain(self.image.iter().copied())
            .collect();
        let output = tract_ndarray::ArrayD::from_shape_vec(shape, output)?.into_tensor();
        let output = output.cast_to_dt(inputs[0].datum_type())?.into_owned();
        Ok(tvec![output.into_tvalue()])
    }
}
