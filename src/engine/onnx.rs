//! Reads from an ONNX file what does not depend on an engine: its signature, operator sets and operators.

mod check;
mod element;
mod external;
mod numbers;
pub(super) mod proto;
mod signature;

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use prost::Message;

use self::element::ElementType;
pub use self::external::External;
use self::proto::{AttributeProto, FunctionProto, ModelProto, NodeProto};
use crate::error::{Error, Result};
use crate::tensor::difference::Precision;
use crate::tensor::shape::Shape;
use crate::tensor::signature::Signature;

/// The most nested subgraphs that are looked into; prost itself refuses deeper ones.
pub(super) const DEEPEST_GRAPH: usize = 64;

/// What an ONNX file says about itself.
#[derive(Debug, Clone)]
pub struct OnnxFile {
    pub producer: String,
    pub ir_version: i64,
    /// Operator sets by domain; the empty domain is `ai.onnx`.
    pub opsets: BTreeMap<String, i64>,
    /// Every node, those of subgraphs and of the model's own functions included.
    pub nodes: Vec<Node>,
    pub signature: Signature,
    /// How coarsely the graph computes.
    pub precision: Precision,
}

/// One node of the graph.
#[derive(Debug, Clone)]
pub struct Node {
    /// The name that its author gave it, or that of its first output.
    pub name: String,
    /// `Operator`, or `domain.Operator` outside of `ai.onnx`.
    pub operator: String,
    /// The values that it takes, by name; an input that is left out is an empty name.
    pub inputs: Vec<String>,
    /// The values that it gives.
    pub outputs: Vec<String>,
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
        proto::attribute(&self.attributes, name)
    }
}

impl OnnxFile {
    /// Reads and checks the file's description; fails when it is not ONNX, does not hold what it declares, or has a
    /// type that no protocol here carries. Its external data is looked for in `folder` alone.
    pub fn read(bytes: &Bytes, folder: Option<&Path>) -> Result<OnnxFile> {
        let model = ModelProto::decode(bytes.clone())
            .map_err(|error| Error::invalid("the file is not an ONNX model").with_source(error))?;
        let graph = model
            .graph
            .as_ref()
            .ok_or_else(|| Error::invalid("the file is not an ONNX model: it has no graph"))?;
        check::check(&model, folder)?;
        let opsets = model
            .opset_import
            .iter()
            .map(|opset| (domain(&opset.domain).to_owned(), opset.version));
        let signature = signature::read(graph)?;
        let functions = model.functions.into_iter().map(FunctionProto::into_graph);
        let functions: Vec<_> = functions.collect();
        let graphs = functions.iter().chain([graph]);
        let precision = graphs.map(numbers::precision).max().unwrap_or_default();
        let producer = [
            model.producer_name.as_str(),
            model.producer_version.as_str(),
        ];
        let producer = producer.join(" ").trim().to_owned();
        let opsets = opsets.collect();
        let mut nodes = Vec::new();
        for graph in model.graph.into_iter().chain(functions) {
            collect_nodes(graph.node, &mut nodes, DEEPEST_GRAPH);
        }
        Ok(OnnxFile {
            producer,
            ir_version: model.ir_version,
            opsets,
            nodes,
            signature,
            precision,
        })
    }

    /// Whether two runs on the same inputs may answer differently.
    pub fn is_random(&self) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|node| numbers::is_random(&node.operator, &node.inputs))
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

/// The bytes that a tensor of this element type and shape needs, if it has a fixed number of them.
pub fn bytes_of(element_type: i32, dims: &[i64]) -> Option<usize> {
    let dims = dims
        .iter()
        .map(|dim| usize::try_from(*dim))
        .collect::<Result<_, _>>();
    let shape = Shape::new(dims.ok()?).ok()?;
    ElementType::from_number(element_type)?.bytes(shape.elements())
}

fn domain(name: &str) -> &str {
    if name.is_empty() { "ai.onnx" } else { name }
}

/// `Operator`, or `domain.Operator` outside of `ai.onnx`.
pub(super) fn operator(of: &str, op_type: &str) -> String {
    match domain(of) {
        "ai.onnx" => op_type.to_owned(),
        domain => format!("{domain}.{op_type}"),
    }
}

fn collect_nodes(from: Vec<NodeProto>, nodes: &mut Vec<Node>, depth: usize) {
    for NodeProto {
        mut name,
        input: inputs,
        output: outputs,
        op_type,
        mut attribute,
        domain: of,
    } in from
    {
        let operator = operator(&of, &op_type);
        if let (true, Some(first)) = (name.is_empty(), outputs.first()) {
            name.clone_from(first);
        }
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
            inputs,
            outputs,
            attributes: attribute,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::DataType;

    #[test]
    fn the_bundled_model_describes_itself() {
        let bytes = Bytes::from_static(include_bytes!("../../models/iris/2/model.onnx"));
        let file = OnnxFile::read(&bytes, None).expect("the bundled model is ONNX");
        assert_eq!(file.operators()["MatMul"], 2);
        assert!(file.opsets["ai.onnx"] >= 13);
        assert_eq!(file.signature.inputs[0].name, "features");
        assert_eq!(file.signature.inputs[0].wire_shape(), [-1, 4]);
        assert_eq!(file.signature.outputs[0].dtype, DataType::Int64);
        assert!(file.signature.has_rows());
    }

    /// A model that defines one function, which gives a constant of 4 bytes in this shape.
    fn with_function(dims: Vec<i64>) -> Result<OnnxFile> {
        let tensor = proto::TensorProto {
            dims,
            data_type: 1,
            raw_data: Bytes::from_static(&[0; 4]),
            ..Default::default()
        };
        let value = AttributeProto {
            name: "value".to_owned(),
            t: Some(tensor),
            ..Default::default()
        };
        let constant = NodeProto {
            op_type: "Constant".to_owned(),
            output: vec!["y".to_owned()],
            attribute: vec![value],
            ..Default::default()
        };
        let function = FunctionProto {
            output: vec!["y".to_owned()],
            node: vec![constant],
            ..Default::default()
        };
        let model = ModelProto {
            graph: Some(proto::GraphProto::default()),
            functions: vec![function],
            ..Default::default()
        };
        OnnxFile::read(&model.encode_to_vec().into(), None)
    }

    #[test]
    fn functions_are_read_and_checked_like_graphs() {
        let file = with_function(vec![1]).expect("its tensor holds what it says");
        assert_eq!(file.operators()["Constant"], 1);
        assert!(with_function(vec![2]).is_err());
    }

    #[test]
    fn what_is_not_onnx_is_refused() {
        assert!(OnnxFile::read(&Bytes::from_static(b"not a protobuf"), None).is_err());
        assert!(OnnxFile::read(&Bytes::new(), None).is_err());
    }
}
