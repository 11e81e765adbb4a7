//! BitShift of our own: tract's shifts by the amount modulo the width.

use tract_onnx::Onnx;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::broadcast::multi_broadcast;
use tract_onnx::tract_hir::internal::*;

use super::super::ml::host::{Fact, Host, Operator};

/// Registers the operator; it replaces tract's.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("BitShift", |_, node| {
        Ok((Host::node(BitShift::read(node)?), vec![]))
    });
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum BitShift {
    Left,
    Right,
}

impl BitShift {
    fn read(node: &NodeProto) -> TractResult<BitShift> {
        match node.get_attr("direction")? {
            "LEFT" => Ok(BitShift::Left),
            "RIGHT" => Ok(BitShift::Right),
            other => bail!("direction '{other}' is not known"),
        }
    }
}

/// A shift that leaves nothing of the number gives 0, or the sign of a number that is shifted right.
macro_rules! shift {
    ($type:ty, $direction:expr, $inputs:expr, $shape:expr) => {{
        let [value, amount] = [&$inputs[0], &$inputs[1]].map(|input| {
            let view = input.to_plain_array_view::<$type>()?;
            let view = view.broadcast($shape).context("it was found to fit")?;
            Ok::<_, TractError>(view.to_owned())
        });
        let mut output = value?;
        output.zip_mut_with(&amount?, |value, amount| {
            let amount = u32::try_from(*amount).unwrap_or(u32::MAX);
            *value = match $direction {
                BitShift::Left => value.checked_shl(amount).unwrap_or(0),
                BitShift::Right => {
                    value
                        .checked_shr(amount.min(<$type>::BITS - 1))
                        .unwrap_or(0)
                        >> u32::from(amount >= <$type>::BITS)
                }
            };
        });
        output.into_tensor()
    }};
}

impl Operator for BitShift {
    fn name(&self) -> &'static str {
        "BitShift"
    }

    fn least_inputs(&self) -> usize {
        2
    }

    fn output_facts(&self, inputs: &[Fact]) -> TractResult<Vec<Fact>> {
        let ((dtype, values), (_, amounts)) = (&inputs[0], &inputs[1]);
        Ok(vec![(*dtype, multi_broadcast(&[values, amounts])?)])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let shape: TVec<usize> = multi_broadcast(&[inputs[0].shape(), inputs[1].shape()])?;
        let shape = shape.as_slice();
        let output = match inputs[0].datum_type() {
            DatumType::U8 => shift!(u8, self, inputs, shape),
            DatumType::U16 => shift!(u16, self, inputs, shape),
            DatumType::U32 => shift!(u32, self, inputs, shape),
            DatumType::U64 => shift!(u64, self, inputs, shape),
            DatumType::I8 => shift!(i8, self, inputs, shape),
            DatumType::I16 => shift!(i16, self, inputs, shape),
            DatumType::I32 => shift!(i32, self, inputs, shape),
            DatumType::I64 => shift!(i64, self, inputs, shape),
            dtype => bail!("inputs of type {dtype:?} are not supported"),
        };
        Ok(tvec![output.into_tvalue()])
    }
}
