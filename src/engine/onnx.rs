//! Reads from an ONNX file what does not depend on an engine: its signature, operator sets and operators.

mod proto;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use prost::Message;

use self::proto::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, ValueInfoProto,
};
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
    /// Every node, those of subgraphs included.
    pub nodes: Vec<Node>,
    pub signature: Signature,
}

/// One node of the graph.
#[derive(Debug, Clone)]
pub struct Node {
    /// The name that its author gave it, which may be empty.
    pub name: String,
    /// `Operator`, or `domain.Operator` outside of `ai.onnx`.
    pub operator: String,
    attributes: Vec<AttributeProto>,
}

impl Node {
    /// The text of an attribute.
    pub fn text(&self, attribute: &str) -> Option<&str> {
        std::str::from_utf8(&self.attribute(attribute)?.s).ok()
    }

    /// The texts of an attribute that is a list of them.
    pub fn texts(&self, attribute: &str) -> &[Vec<u8>] {
        self.attribute(attribute)
            .map_or(&[], |attribute| &attribute.strings)
    }

    /// The whole numbers of an attribute that is a list of them.
    pub fn integers(&self, attribute: &str) -> &[i64] {
        self.attribute(attribute)
            .map_or(&[], |attribute| &attribute.ints)
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.attributes
            .iter()
            .find(|attribute| attribute.name == name)
    }
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
        let signature = signature(graph)?;
        let producer = [
            model.producer_name.as_str(),
            model.producer_version.as_str(),
        ];
        let producer = producer.join(" ").trim().to_owned();
        let opsets = opsets.collect();
        let mut nodes = Vec::new();
        collect_nodes(
            model.graph.unwrap_or_default().node,
            &mut nodes,
            DEEPEST_GRAPH,
        );
        Ok(OnnxFile {
            producer,
            ir_version: model.ir_version,
            opsets,
            nodes,
            signature,
        })
    }

    /// How often each operator occurs.
    pub fn operators(&self) -> BTreeMap<&str, usize> {
        let mut operators = BTreeMap::new();
        for node in &self.nodes {
            *operators.entry(node.operator.as_str()).or_default() += 1;
        }
        operators
    }
}

fn domain(name: &str) -> &str {
    if name.is_empty() { "ai.onnx" } else { name }
}

/// `Operator`, or `domain.Operator` outside of `ai.onnx`.
fn operator(of: &str, op_type: &str) -> String {
    match domain(of) {
        "ai.onnx" => op_type.to_owned(),
        domain => format!("{domain}.{op_type}"),
    }
}

fn collect_nodes(from: Vec<NodeProto>, nodes: &mut Vec<Node>, depth: usize) {
    for NodeProto {
        name,
        op_type,
        mut attribute,
        domain: of,
        ..
    } in from
    {
        let operator = operator(&of, &op_type);
        if depth > 0 {
            for attribute in &mut attribute {
                let subgraphs = attribute
                    .g
                    .take()
                    .into_iter()
                    .chain(attribute.graphs.drain(..));
                subgraphs.for_each(|graph| collect_nodes(graph.node, nodes, depth - 1));
            }
        }
        nodes.push(Node {
            name,
            operator,
            attributes: attribute,
        });
    }
}

fn signature(graph: &GraphProto) -> Result<Signature> {
    let is_weight = |name: &str| graph.initializer.iter().any(|weight| weight.name == name);
    let inputs = graph
        .input
        .iter()
        .filter(|input| !is_weight(&input.name))
        .map(|input| spec("input", input).map_err(|error| with_reader(error, graph, &input.name)));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let columns = zip_map_columns(graph);
    let outputs = graph
        .output
        .iter()
        .map(|output| match columns.get(output.name.as_str()) {
            Some(columns) => Ok(labelled(&output.name, columns.clone(), &inputs)),
            None => spec("output", output),
        });
    Ok(Signature {
        outputs: outputs.collect::<Result<_>>()?,
        inputs,
    })
}

/// Names the operator that takes what cannot be sent, such as a DictVectorizer its map.
fn with_reader(error: Error, graph: &GraphProto, input: &str) -> Error {
    let takes_it = |node: &&NodeProto| node.input.iter().any(|name| name == input);
    let Some(NodeProto {
        op_type, domain, ..
    }) = graph.node.iter().find(takes_it)
    else {
        return error;
    };
    Error::unimplemented(format!(
        "{}; {} takes it: export the model without that step, so that it takes the step's result",
        error.public_message(),
        operator(domain, op_type)
    ))
}

/// The keys of every ZipMap, by the name of its output.
fn zip_map_columns(graph: &GraphProto) -> HashMap<&str, Arc<[String]>> {
    let is_zip_map = |node: &&NodeProto| node.op_type == "ZipMap" && node.domain == "ai.onnx.ml";
    let nodes = graph.node.iter().filter(is_zip_map);
    let named = nodes.filter_map(|node| {
        let keys = node.attribute.iter().flat_map(|keys| {
            let texts = keys.strings.iter();
            let texts = texts.map(|text| String::from_utf8_lossy(text).into_owned());
            texts.chain(keys.ints.iter().map(i64::to_string))
        });
        Some((node.output.first()?.as_str(), keys.collect()))
    });
    named.collect()
}

/// What a ZipMap gives out: in place of a sequence of maps a tensor whose columns have the keys as names.
fn labelled(name: &str, columns: Arc<[String]>, inputs: &[TensorSpec]) -> TensorSpec {
    let rows = match inputs.first().and_then(|input| input.dims.as_deref()) {
        Some([rows @ Dim::Dynamic(_), ..]) => rows.clone(),
        _ => Dim::Dynamic(None),
    };
    TensorSpec {
        name: name.to_owned(),
        dtype: DataType::Fp32,
        dims: Some(vec![rows, Dim::Fixed(columns.len())]),
        columns: Some(columns),
    }
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
    Ok(TensorSpec {
        name,
        dtype,
        dims,
        columns: None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_model_describes_itself() {
        let bytes = include_bytes!("../../models/iris/2/model.onnx");
        let file = OnnxFile::read(bytes).expect("the bundled model is ONNX");
        assert_eq!(file.operators()["MatMul"], 2);
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
