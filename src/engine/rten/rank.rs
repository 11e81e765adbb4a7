//! How many dimensions a node's result has, as far as the file tells, and how long a vector is: shapes are vectors.

use super::facts::integer;
use super::flow::Seen;
use crate::engine::onnx::proto::attribute;

/// Operators whose result has as many dimensions as what they take first.
const KEEPS: [&str; 46] = [
    "Abs",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "CastLike",
    "Ceil",
    "Clip",
    "Conv",
    "ConvInteger",
    "ConvTranspose",
    "CumSum",
    "DepthToSpace",
    "DequantizeLinear",
    "Dropout",
    "DynamicQuantizeLinear",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LayerNormalization",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "MaxPool",
    "Neg",
    "Not",
    "Pad",
    "QuantizeLinear",
    "Reciprocal",
    "Relu",
    "Resize",
    "Round",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Sqrt",
    "Tanh",
    "Transpose",
];

/// Operators that stretch what they take to one shape.
const STRETCHES: [&str; 17] = [
    "Add",
    "And",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "Pow",
    "Sub",
    "Sum",
    "Where",
];

/// How many dimensions the first output has.
pub fn rank(seen: &Seen) -> Option<usize> {
    let operator = seen.operator.as_str();
    let rank = |place| seen.input(place)?.rank;
    let length = |place| seen.input(place)?.length;
    if KEEPS.contains(&operator) {
        // A permutation names every dimension, whatever is known of the input.
        let permutation = attribute(&seen.node.attribute, "perm").map(|perm| perm.ints.len());
        return rank(0).or(permutation.filter(|_| operator == "Transpose"));
    }
    if STRETCHES.contains(&operator) {
        let ranks = seen.inputs().map(|fact| fact?.rank);
        return ranks.collect::<Option<Vec<_>>>()?.into_iter().max();
    }
    if operator.starts_with("Reduce") {
        return match integer(seen.node, "keepdims") {
            None | Some(1..) => rank(0),
            Some(_) => rank(0)?.checked_sub(axes(seen)?),
        };
    }
    match operator {
        "Concat" => seen.inputs().find_map(|fact| fact?.rank),
        "ConstantOfShape" => length(0),
        "Expand" => Some(usize::max(rank(0)?, length(1)?)),
        "Flatten" | "Gemm" => Some(2),
        "Gather" => (rank(0)? + rank(1)?).checked_sub(1),
        "MatMul" => match (rank(0)?, rank(1)?) {
            (0, _) | (_, 0) => None,
            (1, other) | (other, 1) => Some(other - 1),
            (one, other) => Some(usize::max(one, other)),
        },
        "Range" | "Shape" => Some(1),
        "Reshape" => length(1),
        "Size" => Some(0),
        "Squeeze" => rank(0)?.checked_sub(axes(seen)?),
        "Unsqueeze" => rank(0)?.checked_add(axes(seen)?),
        _ => None,
    }
}

/// How many elements the first output has, if it is a vector.
pub fn length(seen: &Seen) -> Option<usize> {
    let input = |place| seen.input(place);
    match seen.operator.as_str() {
        "Cast" | "Identity" => input(0)?.length,
        "Concat" => seen.inputs().map(|fact| fact?.length).sum(),
        "Gather" if input(0)?.rank == Some(1) => input(1)?.length,
        "Shape" if seen.node.attribute.is_empty() => input(0)?.rank,
        "Slice" => {
            let number = |place| usize::try_from(input(place)?.number?).ok();
            let has_steps = input(4).is_some_and(|steps| steps.number != Some(1));
            let from = number(1).filter(|_| !has_steps)?;
            let to = usize::min(number(2)?, input(0)?.length?);
            Some(to.saturating_sub(from))
        }
        "Unsqueeze" if input(0)?.rank == Some(0) => (axes(seen)? == 1).then_some(1),
        _ => None,
    }
}

/// How many axes a node names, in an attribute or, in later operator sets, in an input.
fn axes(seen: &Seen) -> Option<usize> {
    let axes = match attribute(&seen.node.attribute, "axes") {
        Some(axes) => axes.ints.len(),
        None => seen.input(1)?.length?,
    };
    // None at all may mean every one.
    (axes > 0).then_some(axes)
}
