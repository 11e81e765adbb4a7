//! Weights in files of their own, read for rten: by the names that the model has for them, as far as they are used.
//! rten takes them apart itself; that every part is where it may be is checked here and was when the file was read.

use std::collections::BTreeMap;

use crate::engine::ModelSource;
use crate::engine::onnx::proto::{GraphProto, ModelProto, TensorProto};
use crate::engine::onnx::{External, bytes_of};
use crate::error::{Error, Result};

/// `TensorProto.data_location` of a tensor whose data is in a file of its own.
const EXTERNAL: i32 = 1;

/// Every file that weights are in, from its beginning to the end of the last part that is used, by its location.
pub fn find(source: &ModelSource, model: &ModelProto) -> Result<BTreeMap<String, External>> {
    let mut files = BTreeMap::new();
    match &model.graph {
        Some(graph) => collect(source, graph, &mut files).map(|()| files),
        None => Ok(files),
    }
}

fn collect(
    source: &ModelSource,
    graph: &GraphProto,
    files: &mut BTreeMap<String, External>,
) -> Result<()> {
    let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
    let tensors = attributes().flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors));
    for tensor in graph.initializer.iter().chain(tensors) {
        if tensor.data_location == EXTERNAL {
            let (location, part) = locate(source, tensor)?;
            let known = files.get(&location).map_or(0, External::length);
            if part.length() >= known {
                files.insert(location, part);
            }
        }
    }
    let mut graphs = attributes().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    graphs.try_for_each(|graph| collect(source, graph, files))
}

fn locate(source: &ModelSource, tensor: &TensorProto) -> Result<(String, External)> {
    let name = &tensor.name;
    let entries = tensor.external_data.iter();
    let entries = entries.map(|entry| (entry.key.as_str(), entry.value.as_str()));
    let needed = bytes_of(tensor.data_type, &tensor.dims);
    let needed = needed
        .ok_or_else(|| Error::invalid(format!("tensor '{name}' cannot have external data")))?;
    let part = External::locate(name, entries.clone(), needed, source.folder.as_deref())?;
    let location = entries.clone().find(|(key, _)| *key == "location");
    let location = location
        .map(|(_, location)| location.to_owned())
        .unwrap_or_default();
    Ok((location, part.from_start()))
}
