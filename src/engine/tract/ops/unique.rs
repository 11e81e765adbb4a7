//! Unique: the different elements, or slices along an axis, and where they were.

use std::cmp::Ordering;

use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};
use super::deferred;
use super::pick::{number, pick, positions};
use super::present::Present;

/// Registers the operator.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("Unique", |context, node| {
        let operator = Unique {
            axis: node.get_attr_opt("axis")?,
            sorted: node.get_attr_opt::<i64>("sorted")?.unwrap_or(1) != 0,
            outputs: Present::of(&node.output),
            count: context.template.symbols.new_with_prefix("x").to_dim(),
        };
        Ok((Host::node(operator), vec![]))
    });
}

#[derive(Debug)]
struct Unique {
    /// Without one the input counts as a list.
    axis: Option<i64>,
    sorted: bool,
    outputs: Present,
    /// How many different ones there are.
    count: TDim,
}

/// Slices that are all the same.
struct Group {
    /// The first of them.
    first: usize,
    size: usize,
}

impl Unique {
    /// The groups in the order of the output, and the group of each slice.
    fn groups(
        &self,
        slices: usize,
        compare: impl Fn(usize, usize) -> Ordering,
    ) -> (Vec<Group>, Vec<usize>) {
        let mut order: Vec<usize> = (0..slices).collect();
        order.sort_by(|one, other| compare(*one, *other));
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of = vec![0; slices];
        for slice in order {
            match groups.last_mut() {
                Some(group) if compare(group.first, slice) == Ordering::Equal => group.size += 1,
                _ => groups.push(Group {
                    first: slice,
                    size: 1,
                }),
            }
            group_of[slice] = groups.len() - 1;
        }
        if self.sorted {
            return (groups, group_of);
        }
        let mut order: Vec<usize> = (0..groups.len()).collect();
        order.sort_by_key(|group| groups[*group].first);
        let mut place = vec![0; groups.len()];
        order
            .iter()
            .enumerate()
            .for_each(|(at, group)| place[*group] = at);
        groups.sort_by_key(|group| group.first);
        let group_of = group_of.into_iter().map(|group| place[group]);
        (groups, group_of.collect())
    }
}

/// How elements are ordered, by their row-major numbers.
fn order(input: &Tensor) -> TractResult<Box<dyn Fn(usize, usize) -> Ordering>> {
    let dtype = input.datum_type();
    Ok(if dtype == DatumType::String {
        let strings = input.to_plain_array_view::<String>()?;
        let strings: Vec<String> = strings.iter().cloned().collect();
        Box::new(move |one, other| strings[one].cmp(&strings[other]))
    } else if dtype.is_float() {
        let floats = input.cast_to::<f64>()?;
        let floats = floats.to_plain_array_view::<f64>()?;
        let floats: Vec<f64> = floats.iter().copied().collect();
        Box::new(move |one, other| {
            let (one, other) = (floats[one], floats[other]);
            // What is not a number comes last.
            let ordered = one.partial_cmp(&other);
            ordered.unwrap_or_else(|| one.is_nan().cmp(&other.is_nan()))
        })
    } else {
        let integers = deferred::integers(input)?;
        Box::new(move |one, other| integers[one].cmp(&integers[other]))
    })
}

impl Operator for Unique {
    fn name(&self) -> &'static str {
        "Unique"
    }

    fn outputs(&self) -> usize {
        self.outputs.count()
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        let mut values = shape.clone();
        let slices = match self.axis {
            Some(axis) => {
                let axis = deferred::axis(axis, shape.len())?;
                values[axis] = self.count.clone();
                shape[axis].clone()
            }
            None => {
                values = tvec![self.count.clone()];
                shape.iter().product()
            }
        };
        let integers = |dim: TDim| (i64::datum_type(), tvec![dim]);
        let outputs = self.outputs.positions().map(|output| match output {
            0 => (*dtype, values.clone()),
            2 => integers(slices.clone()),
            _ => integers(self.count.clone()),
        });
        Ok(outputs.collect())
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let dims = match self.axis {
            Some(_) => input.shape().to_vec(),
            None => vec![input.len()],
        };
        let axis = deferred::axis(self.axis.unwrap_or(0), dims.len())?;
        // The elements of each slice by their row-major numbers.
        let mut slices = vec![Vec::new(); dims[axis]];
        for position in positions(&dims) {
            slices[position[axis]].push(number(&position, &dims));
        }
        let order = order(input)?;
        let (groups, group_of) = self.groups(dims[axis], |one, other| {
            let pairs = slices[one].iter().zip(&slices[other]);
            let mut orders = pairs.map(|(one, other)| order(*one, *other));
            orders
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        });
        let mut shape = dims.clone();
        shape[axis] = groups.len();
        let from = positions(&shape).map(|mut position| {
            position[axis] = groups[position[axis]].first;
            Some(number(&position, &dims))
        });
        let mut values = Some(pick(input, &shape, from)?);
        let integers = |values: &mut dyn Iterator<Item = usize>| {
            tensor1(&values.map(|value| value as i64).collect::<Vec<_>>())
        };
        let outputs = self.outputs.positions().map(|output| match output {
            0 => values.take().context("it is asked for once"),
            1 => Ok(integers(&mut groups.iter().map(|group| group.first))),
            2 => Ok(integers(&mut group_of.iter().copied())),
            _ => Ok(integers(&mut groups.iter().map(|group| group.size))),
        });
        outputs.map(|output| Ok(output?.into_tvalue())).collect()
    }
}
