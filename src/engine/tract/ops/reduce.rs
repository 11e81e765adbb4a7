//! ReduceMax, ReduceMin and ReduceLogSumExp of our own.
//!
//! tract's begin at the smallest (largest) finite number, so that rows of −∞, as masks have them, come out finite;
//! and its ReduceLogSumExp overflows. log Σ eˣ = m + log Σ eˣ⁻ᵐ with m the largest x never does.

use tract_ndarray::{ArrayD, ArrayView1, Axis};
use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};
use super::deferred::{self, Deferred};
use super::present::Present;

/// Registers the operators; they replace tract's.
pub fn register(onnx: &mut Onnx) {
    let register = &mut onnx.op_register;
    register.insert("ReduceMax", |_, node| Ok((read(Kind::Max, node)?, vec![])));
    register.insert("ReduceMin", |_, node| Ok((read(Kind::Min, node)?, vec![])));
    register.insert("ReduceLogSumExp", |_, node| {
        Ok((read(Kind::LogSumExp, node)?, vec![]))
    });
}

/// Up to operator set 17 the axes are an attribute, then an input.
fn read(kind: Kind, node: &NodeProto) -> TractResult<Box<dyn InferenceOp>> {
    let keep_dims = node.get_attr_opt::<i64>("keepdims")?.unwrap_or(1) != 0;
    let keep_all = node.get_attr_opt::<i64>("noop_with_empty_axes")? == Some(1);
    let reduction = move |axes: Option<Vec<i64>>| Reduction {
        kind,
        axes: match axes {
            Some(axes) if axes.is_empty() && !keep_all => None,
            None if keep_all => Some(vec![]),
            axes => axes,
        },
        keep_dims,
    };
    if Present::of(&node.input).get(1).is_none() {
        return Ok(Host::node(reduction(node.get_attr_opt_vec("axes")?)));
    }
    Ok(Deferred::node(kind.name(), vec![1], move |values| {
        Ok(reduction(Some(deferred::integers(&values[0])?)))
    }))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Max,
    Min,
    LogSumExp,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Max => "ReduceMax",
            Kind::Min => "ReduceMin",
            Kind::LogSumExp => "ReduceLogSumExp",
        }
    }
}

#[derive(Debug)]
struct Reduction {
    kind: Kind,
    /// All of them where none is named.
    axes: Option<Vec<i64>>,
    keep_dims: bool,
}

impl Reduction {
    /// The reduced axes of an input of this rank, in order.
    fn axes(&self, rank: usize) -> TractResult<Vec<usize>> {
        let Some(axes) = &self.axes else {
            return Ok((0..rank).collect());
        };
        let axes = axes.iter().map(|axis| deferred::axis(*axis, rank));
        let mut axes = axes.collect::<TractResult<Vec<_>>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }

    /// Reduces one axis after the other.
    fn each_axis<T: Datum>(
        &self,
        input: &Tensor,
        reduce: impl Fn(&ArrayD<T>, Axis) -> ArrayD<T>,
    ) -> TractResult<Tensor> {
        let mut output = input.to_plain_array_view::<T>()?.to_owned();
        for axis in self.axes(input.rank())?.into_iter().rev() {
            let reduced = reduce(&output, Axis(axis));
            output = match self.keep_dims {
                true => reduced.insert_axis(Axis(axis)),
                false => reduced,
            };
        }
        Ok(output.into_tensor())
    }

    /// The largest or the smallest elements; `least` and `most` are what is left of no elements at all.
    fn extreme<T>(&self, input: &Tensor, least: T, most: T) -> TractResult<Tensor>
    where
        T: Datum + Copy + PartialOrd,
    {
        match self.kind {
            Kind::Min => self.fold(input, most, |one, other| other < one),
            _ => self.fold(input, least, |one, other| other > one),
        }
    }

    /// Keeps what is `better`, and what is not a number.
    fn fold<T>(
        &self,
        input: &Tensor,
        start: T,
        better: impl Fn(T, T) -> bool,
    ) -> TractResult<Tensor>
    where
        T: Datum + Copy + PartialOrd,
    {
        let is_nan = |value: T| value.partial_cmp(&value).is_none();
        let choose = |one: T, other: T| match better(one, other) || is_nan(other) {
            true => other,
            false => one,
        };
        self.each_axis(input, |values, axis| {
            if axis.index() + 1 == values.ndim() {
                let best = |lane: ArrayView1<T>| lane.iter().copied().fold(start, choose);
                return values.map_axis(axis, best);
            }
            // Whole rows at once, in the order of the memory.
            values.fold_axis(axis, start, |one, other| choose(*one, *other))
        })
    }

    fn log_sum_exp<T>(&self, input: &Tensor) -> TractResult<Tensor>
    where
        T: Datum + tract_num_traits::Float,
    {
        let of_lane = |lane: ArrayView1<T>| {
            let largest = lane.iter().copied().fold(T::neg_infinity(), T::max);
            if largest.is_infinite() {
                return largest;
            }
            let exponentials = lane.iter().map(|value| (*value - largest).exp());
            largest + exponentials.fold(T::zero(), |sum, value| sum + value).ln()
        };
        self.each_axis(input, |values, axis| values.map_axis(axis, of_lane))
    }
}

impl Operator for Reduction {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let (dtype, shape) = &inputs[0];
        let mut shape = shape.clone();
        for axis in self.axes(shape.len())?.into_iter().rev() {
            match self.keep_dims {
                true => shape[axis] = 1.to_dim(),
                false => {
                    shape.remove(axis);
                }
            }
        }
        Ok(vec![(*dtype, shape)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let dtype = input.datum_type();
        let output = match (dtype, self.kind) {
            (DatumType::F32, Kind::LogSumExp) => self.log_sum_exp::<f32>(input)?,
            (_, Kind::LogSumExp) => {
                let wide = self.log_sum_exp::<f64>(&*input.cast_to::<f64>()?)?;
                wide.cast_to_dt(dtype)?.into_owned()
            }
            (DatumType::F32, _) => self.extreme(input, f32::NEG_INFINITY, f32::INFINITY)?,
            (DatumType::F64 | DatumType::F16, _) => {
                let wide = input.cast_to::<f64>()?;
                let wide = self.extreme(&wide, f64::NEG_INFINITY, f64::INFINITY)?;
                wide.cast_to_dt(dtype)?.into_owned()
            }
            (DatumType::Bool, _) => self.extreme(input, false, true)?,
            (DatumType::U8, _) => self.extreme(input, u8::MIN, u8::MAX)?,
            (DatumType::U16, _) => self.extreme(input, u16::MIN, u16::MAX)?,
            (DatumType::U32, _) => self.extreme(input, u32::MIN, u32::MAX)?,
            (DatumType::U64, _) => self.extreme(input, u64::MIN, u64::MAX)?,
            (DatumType::I8, _) => self.extreme(input, i8::MIN, i8::MAX)?,
            (DatumType::I16, _) => self.extreme(input, i16::MIN, i16::MAX)?,
            (DatumType::I32, _) => self.extreme(input, i32::MIN, i32::MAX)?,
            (DatumType::I64, _) => self.extreme(input, i64::MIN, i64::MAX)?,
            _ => bail!("inputs of type {dtype:?} are not supported"),
        };
        Ok(tvec![output.into_tvalue()])
    }
}
