//! ReverseSequence: turns the beginning of each row round.

use tract_onnx::Onnx;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};
use super::deferred;
use super::pick::{number, pick, positions};

/// Registers the operator.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("ReverseSequence", |_, node| {
        let operator = ReverseSequence {
            batch_axis: node.get_attr_opt("batch_axis")?.unwrap_or(1),
            time_axis: node.get_attr_opt("time_axis")?.unwrap_or(0),
        };
        Ok((Host::node(operator), vec![]))
    });
}

#[derive(Debug)]
struct ReverseSequence {
    batch_axis: i64,
    time_axis: i64,
}

impl Operator for ReverseSequence {
    fn name(&self) -> &'static str {
        "ReverseSequence"
    }

    fn least_inputs(&self) -> usize {
        2
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        Ok(vec![inputs[0].clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = &inputs[0];
        let shape = input.shape();
        let batch = deferred::axis(self.batch_axis, shape.len())?;
        let time = deferred::axis(self.time_axis, shape.len())?;
        let lengths = deferred::integers(&inputs[1])?;
        ensure!(
            lengths.len() == shape[batch],
            "sequence_lens has {} entries for {} rows",
            lengths.len(),
            shape[batch]
        );
        let length = |length: &i64| match usize::try_from(*length) {
            Ok(length) if length <= shape[time] => Ok(length),
            _ => bail!(
                "sequence_lens holds {length}, and the sequences have {} steps",
                shape[time]
            ),
        };
        let lengths = lengths
            .iter()
            .map(length)
            .collect::<TractResult<Vec<_>>>()?;
        let from = positions(shape).map(|mut position| {
            let length = lengths[position[batch]];
            if position[time] < length {
                position[time] = length - 1 - position[time];
            }
            Some(number(&position, shape))
        });
        Ok(tvec![pick(input, shape, from)?.into_tvalue()])
    }
}
