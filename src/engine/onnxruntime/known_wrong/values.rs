//! What can be told of a graph's values without running it: their types, and for whole numbers roughly their size.
//!
//! Types are followed in the order of the nodes by what operators do in general; a type that is not found out so counts
//! as harmless.

use std::collections::{HashMap, HashSet};

use crate::engine::onnx::DEEPEST_GRAPH;
use crate::engine::onnx::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto, attribute};

/// `TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT32: i32 = 6;
const INT64: i32 = 7;
pub const STRING: i32 = 8;
const BOOL: i32 = 9;
const FRACTIONS: [i32; 4] = [FLOAT, 10, 11, 16];

/// Operators that only move numbers about.
const MOVING: [&str; 12] = [
    "Cast",
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];
/// Operators by which sizes of tensors become other sizes.
const COUNTING: [&str; 12] = [
    "Abs",
    "Add",
    "Ceil",
    "Div",
    "Floor",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Range",
    "ReduceProd",
    "Sub",
];

/// What is known of the values of a graph and its subgraphs, by name.
#[derive(Default)]
pub struct Values<'a> {
    kinds: HashMap<&'a str, i32>,
    constants: HashMap<&'a str, &'a TensorProto>,
    never_minus_one: HashSet<&'a str>,
    small: HashSet<&'a str>,
    /// Whether the types of the graph's own inputs are unknown, as those of a function are.
    is_untyped: bool,
}

impl<'a> Values<'a> {
    /// Follows a graph.
    pub fn of(graph: &'a GraphProto) -> Values<'a> {
        let mut values = Values {
            is_untyped: graph.input.iter().any(|input| input.r#type.is_none()),
            ..Values::default()
        };
        values.follow(graph, DEEPEST_GRAPH);
        values
    }

    /// The element type of a value, if it is known.
    pub fn kind(&self, name: &str) -> Option<i32> {
        self.kinds.get(name).copied()
    }

    /// Whether the value may be of whole numbers of 32 or 64 bits.
    pub fn may_be_wide_integers(&self, name: &str) -> bool {
        self.kind(name).map_or(self.is_untyped, is_wide_integer)
    }

    /// Whether the value is written down in the file.
    pub fn is_constant(&self, name: &str) -> bool {
        self.constants.contains_key(name)
    }

    /// The numbers of a constant of FP32.
    pub fn fractions(&self, name: &str) -> Option<Vec<f32>> {
        let tensor = self.constants.get(name)?;
        let raw = tensor.raw_data.chunks_exact(4);
        let raw = raw.filter_map(|bytes| Some(f32::from_le_bytes(bytes.try_into().ok()?)));
        (tensor.data_type == FLOAT).then(|| tensor.float_data.iter().copied().chain(raw).collect())
    }

    /// Whether the whole numbers are constants other than -1, or sizes of tensors.
    pub fn is_never_minus_one(&self, name: &str) -> bool {
        self.never_minus_one.contains(name)
    }

    /// Whether the whole numbers are constants, or made from sizes of tensors, and so never the least one.
    pub fn is_small(&self, name: &str) -> bool {
        self.small.contains(name)
    }

    fn follow(&mut self, graph: &'a GraphProto, depth: usize) {
        for tensor in &graph.initializer {
            self.constant(&tensor.name, tensor);
        }
        let declared = graph
            .input
            .iter()
            .chain(&graph.value_info)
            .chain(&graph.output);
        for (name, kind) in declared.filter_map(kind_of) {
            self.kinds.entry(name).or_insert(kind);
        }
        for node in &graph.node {
            if depth > 0 {
                subgraphs(node).for_each(|graph| self.follow(graph, depth - 1));
            }
            self.node(node);
        }
    }

    fn constant(&mut self, name: &'a str, tensor: &'a TensorProto) {
        self.kinds.insert(name, tensor.data_type);
        self.constants.insert(name, tensor);
        self.small.insert(name);
        if !may_hold_minus_one(tensor) {
            self.never_minus_one.insert(name);
        }
    }

    fn node(&mut self, node: &'a NodeProto) {
        if let ("Constant", Some(tensor), Some(output)) = (
            node.op_type.as_str(),
            attribute(&node.attribute, "value").and_then(|value| value.t.as_ref()),
            node.output.first(),
        ) {
            return self.constant(output, tensor);
        }
        let operator = node.op_type.as_str();
        let is_size = matches!(operator, "Shape" | "Size");
        let all = |known: &HashSet<&str>| {
            let mut inputs = node.input.iter().filter(|input| !input.is_empty());
            inputs.all(|input| known.contains(input.as_str())) && !node.input.is_empty()
        };
        let is_moved = MOVING.contains(&operator);
        let is_positive = is_size || (is_moved && all(&self.never_minus_one));
        let is_small =
            is_positive || ((is_moved || COUNTING.contains(&operator)) && all(&self.small));
        for (place, output) in node.output.iter().enumerate() {
            if let (false, Some(kind)) = (
                self.kinds.contains_key(output.as_str()),
                self.gives(node, place),
            ) {
                self.kinds.insert(output, kind);
            }
            if is_positive {
                self.never_minus_one.insert(output);
            }
            if is_small {
                self.small.insert(output);
            }
        }
    }

    /// The element type of a node's output.
    pub fn gives(&self, node: &NodeProto, place: usize) -> Option<i32> {
        let of = |place: usize| node.input.get(place).and_then(|name| self.kind(name));
        match node.op_type.as_str() {
            "Cast" => attribute(&node.attribute, "to").and_then(|to| i32::try_from(to.i).ok()),
            "CastLike" | "DequantizeLinear" | "Where" => of(1),
            "OneHot" => of(2),
            "Constant" => Some(
                match attribute(&node.attribute, "value_int")
                    .or(attribute(&node.attribute, "value_ints"))
                {
                    Some(_) => INT64,
                    None => FLOAT,
                },
            ),
            "ConstantOfShape" => {
                let value = attribute(&node.attribute, "value").and_then(|value| value.t.as_ref());
                Some(value.map_or(FLOAT, |value| value.data_type))
            }
            "ArgMax" | "ArgMin" | "NonMaxSuppression" | "NonZero" | "Shape" | "Size" => Some(INT64),
            "ConvInteger" | "MatMulInteger" => Some(INT32),
            "And" | "Equal" | "Greater" | "GreaterOrEqual" | "IsInf" | "IsNaN" | "Less"
            | "LessOrEqual" | "Not" | "Or" | "Xor" => Some(BOOL),
            "MaxPool" | "TopK" | "Unique" if place > 0 => Some(INT64),
            "If" | "Scan" => self.of_subgraph(node, place),
            // A loop's body gives its condition first.
            "Loop" => self.of_subgraph(node, place + 1),
            _ if !matches!(node.domain.as_str(), "" | "ai.onnx") => None,
            _ => of(0),
        }
    }

    fn of_subgraph(&self, node: &NodeProto, place: usize) -> Option<i32> {
        let output = subgraphs(node).find_map(|graph| graph.output.get(place))?;
        self.kind(&output.name)
    }
}

/// Whether these are numbers that are not whole.
pub fn is_fraction(kind: i32) -> bool {
    FRACTIONS.contains(&kind)
}

/// Whether these are signed whole numbers that no wider ones are computed with.
pub fn is_wide_integer(kind: i32) -> bool {
    matches!(kind, INT32 | INT64)
}

/// Shows every node, those of subgraphs included.
pub fn each_node<'a>(graph: &'a GraphProto, see: &mut dyn FnMut(&'a NodeProto)) {
    for node in &graph.node {
        see(node);
        subgraphs(node).for_each(|graph| each_node(graph, see));
    }
}

fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    let attributes = node.attribute.iter();
    attributes.flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

fn kind_of(value: &ValueInfoProto) -> Option<(&str, i32)> {
    let tensor = value.r#type.as_ref()?.tensor_type.as_ref()?;
    Some((&value.name, tensor.elem_type))
}

fn may_hold_minus_one(tensor: &TensorProto) -> bool {
    let bytes = &tensor.raw_data;
    let raw = match tensor.data_type {
        INT32 => bytes.chunks_exact(4).any(|number| number == [0xff; 4]),
        INT64 => bytes.chunks_exact(8).any(|number| number == [0xff; 8]),
        // Made whole, a fraction may become it.
        _ => true,
    };
    raw || tensor.int32_data.contains(&-1)
        || tensor.int64_data.contains(&-1)
        || !tensor.external_data.is_empty()
}
