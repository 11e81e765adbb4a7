//! A graph's signature: what it takes and gives, as the file declares it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::element::ElementType;
use super::operator;
use super::proto::{DimensionProto, GraphProto, NodeProto, ValueInfoProto};
use crate::error::{Error, Result};
use crate::tensor::dtype::DataType;
use crate::tensor::signature::{Dim, Signature, TensorSpec};

/// The inputs that are not weights, and the outputs, in the file's order.
pub fn read(graph: &GraphProto) -> Result<Signature> {
    let weights: HashSet<_> = graph
        .initializer
        .iter()
        .map(|weight| weight.name.as_str())
        .collect();
    let inputs = graph
        .input
        .iter()
        .filter(|input| !weights.contains(input.name.as_str()))
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
    let dtype = ElementType::from_number(tensor.elem_type)
        .and_then(ElementType::data_type)
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
