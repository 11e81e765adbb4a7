//! Single operators that rten is known to answer wrongly, so that they are refused and never served.
//!
//! Each was seen against ONNX Runtime or the tests of ONNX. `tests/data/known_wrong/rten` has a model of each.

use super::facts::element::{BOOL, FLOAT, INT8, INT32, UINT8};
use super::facts::{Fact, integer, text};
use super::flow::{Seen, target};
use crate::engine::onnx::proto::attribute;
use crate::error::Result;

/// Fails if rten answers this node wrongly.
pub fn refuse(seen: &Seen) -> Result<()> {
    match reason(seen) {
        Some(why) => Err(seen.refusal(why)),
        None => Ok(()),
    }
}

fn reason(seen: &Seen) -> Option<&'static str> {
    let element = |place| seen.input(place).and_then(|fact: Fact| fact.element);
    let rank = |place| seen.input(place).and_then(|fact: Fact| fact.rank);
    let is = |held: bool, why| held.then_some(why);
    match seen.operator.as_str() {
        "ArgMax" | "ArgMin" => Some("of equal elements rten finds the last instead of the first"),
        "AveragePool" | "MaxPool" | "Conv" | "ConvInteger" | "ConvTranspose" => padding(seen),
        "BitCast" => {
            let is_held_as_it_is = |element| matches!(element, Some(FLOAT | INT32 | INT8 | UINT8));
            let kept = is_held_as_it_is(element(0)) && is_held_as_it_is(target(seen));
            is(!kept, "rten holds these element types in other widths")
        }
        "Cast" | "CastLike" => {
            let from_fractions = seen
                .input(0)
                .is_none_or(|fact| fact.is_fraction() && !fact.is_whole || fact.element.is_none());
            is(
                target(seen) == Some(BOOL) && from_fractions,
                "rten takes fractions below 1 for false",
            )
        }
        "DynamicQuantizeLinear" | "QuantizeLinear" => {
            Some("rten multiplies by the inverse of the scale, which rounds some numbers otherwise")
        }
        "GRU" | "LSTM" => is(seen.input(4).is_some(), "rten ignores sequence_lens"),
        "MatMul" => is(
            rank(1) == Some(1) && rank(0) != Some(1) && rank(0) != Some(2),
            "the product with a vector gets a dimension too many",
        ),
        "NonMaxSuppression" => {
            Some("rten counts the boxes of all classes together, and mixes up flipped corners")
        }
        "PRelu" => is(
            seen.opset < 7,
            "rten takes the slope as operator set 7 defines it",
        ),
        "ReduceMax" => is(
            element(0) == Some(BOOL),
            "the largest of no booleans comes out true",
        ),
        "Resize" => is(
            text(seen.node, "mode") == Some("cubic"),
            "mode cubic is computed as linear",
        ),
        "SequenceInsert" => {
            let from_front = seen
                .input(2)
                .is_none_or(|place| place.number.is_some_and(|number| number >= 0));
            is(
                !from_front,
                "a position that counts from the end is taken wrongly",
            )
        }
        "Sign" => is(!matches!(element(0), Some(INT32)), "rten gives 1 for 0"),
        _ => None,
    }
}

/// The axis for which alone rten answers this node right, where that axis is the last one.
pub fn right_for_last_axis(seen: &Seen) -> Option<(i64, &'static str)> {
    let is_softmax = matches!(seen.operator.as_str(), "Softmax" | "LogSoftmax");
    // rten takes the last axis where none is given.
    let axis = integer(seen.node, "axis").unwrap_or(1);
    let matters = is_softmax && seen.opset < 13 && axis != -1;
    matters.then_some((
        axis,
        "before operator set 13 all dimensions from axis on are taken together, which rten does not do",
    ))
}

/// rten pads `SAME_LOWER` as `SAME_UPPER`: the same where what is to be padded is even.
fn padding(seen: &Seen) -> Option<&'static str> {
    let numbers = |name| {
        attribute(&seen.node.attribute, name)
            .map(|attribute| attribute.ints.as_slice())
            .unwrap_or_default()
    };
    match text(seen.node, "auto_pad") {
        Some("SAME_LOWER") => {
            let kernel = numbers("kernel_shape");
            let is_even = !kernel.is_empty()
                && kernel.iter().all(|length| length % 2 == 1)
                && numbers("strides").iter().all(|stride| *stride == 1);
            (!is_even).then_some("auto_pad SAME_LOWER is computed as SAME_UPPER")
        }
        Some("VALID") => numbers("pads")
            .iter()
            .any(|pad| *pad != 0)
            .then_some("pads are not ignored with auto_pad VALID"),
        _ => None,
    }
}
