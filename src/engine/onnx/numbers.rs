//! What can be told of a graph's numbers before it runs: how coarse they are, and whether chance makes some.

use super::proto::{AttributeProto, GraphProto, NodeProto};
use crate::tensor::difference::Precision;

/// ONNX's numbers for the element types that are coarser than FP32.
const FLOAT16: i32 = 10;
const BFLOAT16: i32 = 16;

/// Operators whose answer is another one every time.
const RANDOM: [&str; 6] = [
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// The coarsest numbers that values go through on their way to the outputs.
pub fn precision(graph: &GraphProto) -> Precision {
    let weights = graph
        .initializer
        .iter()
        .map(|weight| of_type(weight.data_type));
    let inputs = graph.input.iter().filter_map(|input| {
        let tensor = input.r#type.as_ref()?.tensor_type.as_ref()?;
        Some(of_type(tensor.elem_type))
    });
    let nodes = graph.node.iter().map(of_node);
    let all = weights.chain(inputs).chain(nodes);
    all.max().unwrap_or_default()
}

fn of_node(node: &NodeProto) -> Precision {
    let is_quantised = ["Quantize", "QLinear", "Integer"]
        .iter()
        .any(|part| node.op_type.contains(part));
    let own = match is_quantised {
        true => Precision::Quantised,
        false => Precision::Single,
    };
    let attributes = node.attribute.iter().map(of_attribute);
    attributes.fold(own, Precision::max)
}

fn of_attribute(attribute: &AttributeProto) -> Precision {
    let constant = attribute.t.iter().map(|tensor| of_type(tensor.data_type));
    let target = (attribute.name == "to").then(|| of_type(i32::try_from(attribute.i).unwrap_or(0)));
    let graphs = attribute.g.iter().chain(&attribute.graphs).map(precision);
    let all = constant.chain(target).chain(graphs);
    all.max().unwrap_or_default()
}

fn of_type(element_type: i32) -> Precision {
    match element_type {
        FLOAT16 => Precision::Half,
        BFLOAT16 => Precision::Bfloat,
        _ => Precision::Single,
    }
}

/// Whether two runs on the same inputs may answer differently.
pub fn is_random(operator: &str, inputs: &[String]) -> bool {
    const TRAINING_MODE: usize = 2;
    let drops = operator == "Dropout"
        && inputs
            .get(TRAINING_MODE)
            .is_some_and(|name| !name.is_empty());
    drops || RANDOM.contains(&operator)
}
