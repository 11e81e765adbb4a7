//! Reads from an ONNX file what does not depend on an engine: its signature, operator sets and operators.
//!
//! The messages below are the part of the ONNX protobuf schema (onnx.proto3 of ONNX 1.x; the tags are its field
//! numbers) that this needs. Weights are not among them, so they are skipped without a copy.

use std::collections::BTreeMap;

use prost::Message;

use crate::error::{Error, Result};
use crate::tensor::dtype::DataType;
use crate::tensor::signature::{Dim, Signature, TensorSpec};

/// The most nested subgraphs that are looked into; prost itself refuses deeper ones.
const DEEPEST_GRAPH: usize = 64;

/// What an ONNX file says about itself.
#[derive(Debug, Clone)]
pub struct OnnxFile {
    pub producer: String,
    pub ir_version: i64,
    /// Operator sets by domain; the empty domain is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// How often each operator occurs, subgraphs included, by `domain.Operator`.
    pub operators: BTreeMap<String, usize>,
    pub signature: Signature,
}

impl OnnxFile {
    /// Reads the file's description; fails when it is not ONNX or has a type that no protocol here carries.
    pub fn read(bytes: &[u8]) -> Result<OnnxFile> {
        let model = ModelProto::decode(bytes)
            .map_err(|error| Error::invalid("the file is not an ONNX model").with_source(error))?;
        let graph = model
            .graph
            .as_ref()
            .ok_or_else(|| Error::invalid("the file is not an ONNX model: it has no graph"))?;
        let opsets = model
            .opset_import
            .iter()
            .map(|opset| (domain(&opset.domain).to_owned(), opset.version));
        let mut operators = BTreeMap::new();
        count_operators(&graph.node, &mut operators, DEEPEST_GRAPH);
        Ok(OnnxFile {
            producer: [
                model.producer_name.as_str(),
                model.producer_version.as_str(),
            ]
            .join(" ")
            .trim()
            .to_owned(),
            ir_version: model.ir_version,
            opsets: opsets.collect(),
            operators,
            signature: signature(graph)?,
        })
    }
}

fn domain(name: &str) -> &str {
    if name.is_empty() { "ai.onnx" } else { name }
}

fn count_operators(nodes: &[NodeProto], operators: &mut BTreeMap<String, usize>, depth: usize) {
    for node in nodes {
        let name = match domain(&node.domain) {
            "ai.onnx" => node.op_type.clone(),
            domain => format!("{domain}.{}", node.op_type),
        };
        *operators.entry(name).or_default() += 1;
        let subgraphs = node
            .attribute
            .iter()
            .flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
        if depth > 0 {
            subgraphs.for_each(|graph| count_operators(&graph.node, operators, depth - 1));
        }
    }
}

fn signature(graph: &GraphProto) -> Result<Signature> {
    let is_weight = |name: &str| graph.initializer.iter().any(|weight| weight.name == name);
    let inputs = graph
        .input
        .iter()
        .filter(|input| !is_weight(&input.name))
        .map(|input| spec("input", input));
    let outputs = graph.output.iter().map(|output| spec("output", output));
    Ok(Signature {
        inputs: inputs.collect::<Result<_>>()?,
        outputs: outputs.collect::<Result<_>>()?,
    })
}

fn spec(what: &str, value: &ValueInfoProto) -> Result<TensorSpec> {
    let name = value.name.clone();
    let refuse = |got: &str| {
        Error::unimplemented(format!(
            "{what} '{name}' is {got}, which no protocol here carries"
        ))
    };
    let tensor = value
        .r#type
        .as_ref()
        .and_then(|kind| kind.tensor_type.as_ref());
    let tensor =
        tensor.ok_or_else(|| refuse("not a tensor (a sequence, a map or an optional value)"))?;
    let dtype = data_type(tensor.elem_type)
        .ok_or_else(|| refuse(&format!("of ONNX element type {}", tensor.elem_type)))?;
    let dims = tensor
        .shape
        .as_ref()
        .map(|shape| shape.dim.iter().map(dim).collect());
    Ok(TensorSpec { name, dtype, dims })
}

fn dim(dim: &DimensionProto) -> Dim {
    match (&dim.dim_param, dim.dim_value.map(usize::try_from)) {
        (Some(name), _) if !name.is_empty() => Dim::Dynamic(Some(name.clone())),
        (_, Some(Ok(length))) => Dim::Fixed(length),
        _ => Dim::Dynamic(None),
    }
}

/// The numbers of `TensorProto.DataType`.
fn data_type(number: i32) -> Option<DataType> {
    Some(match number {
        1 => DataType::Fp32,
        2 => DataType::UInt8,
        3 => DataType::Int8,
        4 => DataType::UInt16,
        5 => DataType::Int16,
        6 => DataType::Int32,
        7 => DataType::Int64,
        8 => DataType::Bytes,
        9 => DataType::Bool,
        10 => DataType::Fp16,
        11 => DataType::Fp64,
        12 => DataType::UInt32,
        13 => DataType::UInt64,
        16 => DataType::Bf16,
        _ => return None,
    })
}

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    #[prost(string, tag = "2")]
    producer_name: String,
    #[prost(string, tag = "3")]
    producer_version: String,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetId>,
}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetId {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<InitializerProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(message, optional, tag = "6")]
    g: Option<GraphProto>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
struct InitializerProto {
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<ShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct ShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimensionProto>,
}

#[derive(Clone, PartialEq, Message)]
struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_model_describes_itself() {
        let bytes = include_bytes!("../../models/iris/2/model.onnx");
        let file = OnnxFile::read(bytes).expect("the bundled model is ONNX");
        assert_eq!(file.operators["MatMul"], 2);
        assert!(file.opsets["ai.onnx"] >= 13);
        assert_eq!(file.signature.inputs[0].name, "features");
        assert_eq!(file.signature.inputs[0].wire_shape(), [-1, 4]);
        assert_eq!(file.signature.outputs[0].dtype, DataType::Int64);
        assert!(file.signature.has_rows());
    }

    #[test]
    fn what_is_not_onnx_is_refused() {
        assert!(OnnxFile::read(b"not a protobuf").is_err());
        assert!(OnnxFile::read(b"").is_err());
    }
}
