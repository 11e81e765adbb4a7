//! An ONNX file as tract reads it, brought into the form that tract reads right.
//!
//! Every number is put into `raw_data` (tract mixes up the types of some typed lists), external data is read in, and
//! bfloat16, which tract lacks, becomes FP32: the model then computes with more precision than it asks for.

use std::path::Path;

use bytes::Bytes;
use half::bf16;
use prost::Message;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto, type_proto::Value,
};

use crate::engine::onnx::{External, bytes_of};
use crate::error::{Error, Result};

const FLOAT: i32 = DataType::Float as i32;
const BFLOAT16: i32 = DataType::Bfloat16 as i32;

/// Reads a file that [`OnnxFile::read`](crate::engine::onnx::OnnxFile::read) has checked.
pub fn read(bytes: &Bytes, folder: Option<&Path>) -> Result<ModelProto> {
    let decoded = ModelProto::decode(bytes.clone());
    let mut model = decoded
        .map_err(|error| Error::invalid("the file is not an ONNX model").with_source(error))?;
    if let Some(graph) = &mut model.graph {
        read_graph(graph, folder)?;
    }
    Ok(model)
}

/// The bytes of all weights.
pub fn weight_bytes(model: &ModelProto) -> usize {
    let initializers = model.graph.iter().flat_map(|graph| &graph.initializer);
    initializers.map(|tensor| tensor.raw_data.len()).sum()
}

fn read_graph(graph: &mut GraphProto, folder: Option<&Path>) -> Result<()> {
    graph
        .initializer
        .iter_mut()
        .try_for_each(|tensor| read_tensor(tensor, folder))?;
    let values = graph.input.iter_mut().chain(&mut graph.output);
    values.for_each(widen_value);
    for (index, node) in graph.node.iter_mut().enumerate() {
        widen_node(node);
        name_outputs(node, index);
        for attribute in &mut node.attribute {
            let tensors = attribute.t.iter_mut().chain(&mut attribute.tensors);
            tensors
                .into_iter()
                .try_for_each(|tensor| read_tensor(tensor, folder))?;
            let graphs = attribute.g.iter_mut().chain(&mut attribute.graphs);
            graphs
                .into_iter()
                .try_for_each(|graph| read_graph(graph, folder))?;
        }
    }
    Ok(())
}

fn widen_value(value: &mut ValueInfoProto) {
    if let Some(TypeProto {
        value: Some(Value::TensorType(tensor)),
        ..
    }) = &mut value.r#type
        && tensor.elem_type == BFLOAT16
    {
        tensor.elem_type = FLOAT;
    }
}

/// tract gives an operator all its outputs and wants a name for each: those left out get names, or go where they are
/// the last ones and the operator can do without.
fn name_outputs(node: &mut NodeProto, index: usize) {
    while node.output.len() > 1 && node.output.last().is_some_and(String::is_empty) {
        node.output.pop();
    }
    if node.op_type == "TopK" {
        node.output.resize(2, String::new());
    }
    for (place, output) in node.output.iter_mut().enumerate() {
        if output.is_empty() {
            *output = format!("onnxd.unused.{index}.{place}");
        }
    }
}

/// The attributes that choose a type: `to` of Cast, `dtype` of EyeLike and its like.
fn widen_node(node: &mut NodeProto) {
    for attribute in &mut node.attribute {
        let chooses_type = matches!(
            attribute.name.as_str(),
            "to" | "dtype" | "output_dtype" | "stash_type"
        );
        if chooses_type && attribute.i == i64::from(BFLOAT16) {
            attribute.i = FLOAT.into();
        }
    }
}

fn read_tensor(tensor: &mut TensorProto, folder: Option<&Path>) -> Result<()> {
    if tensor.data_location == Some(DataLocation::External as i32) {
        tensor.raw_data = read_external(tensor, folder)?;
        tensor.data_location = None;
    } else if tensor.raw_data.is_empty() {
        tensor.raw_data = typed_data(tensor);
    }
    if tensor.data_type == BFLOAT16 {
        let narrow = tensor
            .raw_data
            .chunks_exact(2)
            .map(|bytes| bf16::from_le_bytes([bytes[0], bytes[1]]));
        tensor.raw_data = narrow
            .flat_map(|value| value.to_f32().to_le_bytes())
            .collect();
        tensor.data_type = FLOAT;
    }
    Ok(())
}

fn read_external(tensor: &TensorProto, folder: Option<&Path>) -> Result<Vec<u8>> {
    let entries = tensor
        .external_data
        .iter()
        .map(|entry| (entry.key.as_str(), entry.value.as_str()));
    let needed = bytes_of(tensor.data_type, &tensor.dims).ok_or_else(|| {
        Error::invalid(format!(
            "tensor '{}' cannot have external data",
            tensor.name
        ))
    })?;
    External::locate(&tensor.name, entries, needed, folder)?.read()
}

/// The elements of the typed lists as raw data; nothing for strings, which stay where they are.
fn typed_data(tensor: &mut TensorProto) -> Vec<u8> {
    let narrow = std::mem::take(&mut tensor.int32_data);
    let width = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Bool | DataType::Uint8 | DataType::Int8) => 1,
        Ok(DataType::Uint16 | DataType::Int16 | DataType::Float16 | DataType::Bfloat16) => 2,
        Ok(DataType::Uint32) => 4,
        _ => 8,
    };
    let mut raw: Vec<u8> = narrow
        .iter()
        .flat_map(|value| value.to_le_bytes().into_iter().take(width))
        .collect();
    raw.extend(
        std::mem::take(&mut tensor.float_data)
            .iter()
            .flat_map(|value| value.to_le_bytes()),
    );
    raw.extend(
        std::mem::take(&mut tensor.int64_data)
            .iter()
            .flat_map(|value| value.to_le_bytes()),
    );
    raw.extend(
        std::mem::take(&mut tensor.double_data)
            .iter()
            .flat_map(|value| value.to_le_bytes()),
    );
    let unsigned = std::mem::take(&mut tensor.uint64_data);
    raw.extend(
        unsigned
            .iter()
            .flat_map(|value| value.to_le_bytes().into_iter().take(width)),
    );
    raw
}
