//! What must hold of an ONNX file before any engine reads it: nothing is allocated for what the file only declares.
//!
//! Tensors hold as much as their shapes say, external data is where it may be, every name is given once and before
//! it is needed, and no node waits for itself.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::DEEPEST_GRAPH;
use super::element::ElementType;
use super::external::External;
use super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::error::{Error, Result};
use crate::tensor::shape::{Dims, Shape};

/// `TensorProto.data_location` of a tensor whose data is in a file of its own.
const EXTERNAL: i32 = 1;

/// Engines take long over more dimensions, and no model has them.
const MOST_DIMENSIONS: usize = 64;

/// Fails with the first thing that is wrong; `folder` is where external data may be.
pub fn check(model: &ModelProto, folder: Option<&Path>) -> Result<()> {
    let check = |graph: &GraphProto| check_graph(graph, folder, &[], DEEPEST_GRAPH);
    let functions = model.functions.iter().cloned();
    model.graph.iter().try_for_each(check)?;
    functions
        .map(FunctionProto::into_graph)
        .try_for_each(|graph| check(&graph))
}

/// Checks a graph; `outer` are the names that the graphs around it give.
fn check_graph(
    graph: &GraphProto,
    folder: Option<&Path>,
    outer: &[&HashSet<&str>],
    depth: usize,
) -> Result<()> {
    if depth == 0 {
        return Err(Error::invalid(format!(
            "graphs are nested more than {DEEPEST_GRAPH} deep"
        )));
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(Error::unimplemented(
            "sparse initializers are not supported; store them dense",
        ));
    }
    graph
        .initializer
        .iter()
        .try_for_each(|tensor| check_tensor(tensor, folder))?;
    let names = names(graph)?;
    let scopes: Vec<_> = outer.iter().copied().chain([&names]).collect();
    let is_known = |name: &str| name.is_empty() || scopes.iter().any(|scope| scope.contains(name));
    for node in &graph.node {
        if let Some(name) = node.input.iter().find(|name| !is_known(name)) {
            return Err(at(
                node,
                &format!("it reads '{name}', which nothing in the graph gives"),
            ));
        }
        for attribute in &node.attribute {
            let tensors = attribute.t.iter().chain(&attribute.tensors);
            tensors
                .into_iter()
                .try_for_each(|tensor| check_tensor(tensor, folder))?;
            subgraphs(attribute)
                .try_for_each(|graph| check_graph(graph, folder, &scopes, depth - 1))?;
        }
    }
    if let Some(output) = graph.output.iter().find(|output| !is_known(&output.name)) {
        return Err(Error::invalid(format!(
            "output '{}' is given by nothing in the graph",
            output.name
        )));
    }
    check_order(graph)
}

fn subgraphs(attribute: &AttributeProto) -> impl Iterator<Item = &GraphProto> {
    attribute.g.iter().chain(&attribute.graphs)
}

/// Everything that the graph gives a name to; a name that is given twice is an error.
fn names(graph: &GraphProto) -> Result<HashSet<&str>> {
    let inputs = graph.input.iter().map(|input| input.name.as_str());
    let mut names = unique("input", inputs)?;
    let weights = graph.initializer.iter().map(|tensor| tensor.name.as_str());
    // An input may have the name of an initializer, which then is its value.
    names.extend(unique("initializer", weights)?);
    unique(
        "output",
        graph.output.iter().map(|output| output.name.as_str()),
    )?;
    for node in &graph.node {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if !names.insert(output) {
                return Err(at(
                    node,
                    &format!("its output '{output}' has the name of something else"),
                ));
            }
        }
    }
    Ok(names)
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<HashSet<&'a str>> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(Error::invalid(format!("{what} '{name}' is there twice")));
        }
    }
    Ok(seen)
}

/// Fails when nodes wait for each other in a circle. Takes nodes away whose inputs are there until none is left.
fn check_order(graph: &GraphProto) -> Result<()> {
    let mut giver = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        giver.extend(
            node.output
                .iter()
                .filter(|name| !name.is_empty())
                .map(|name| (name.as_str(), index)),
        );
    }
    let mut waits_for = vec![0usize; graph.node.len()];
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); graph.node.len()];
    for (index, node) in graph.node.iter().enumerate() {
        let mut read = Vec::new();
        reads(node, &mut read, DEEPEST_GRAPH);
        let givers: HashSet<_> = read
            .iter()
            .filter_map(|name| giver.get(name).copied())
            .collect();
        waits_for[index] = givers.len();
        givers
            .into_iter()
            .for_each(|giver| waiting[giver].push(index));
    }
    let mut ready: Vec<_> = (0..waits_for.len())
        .filter(|index| waits_for[*index] == 0)
        .collect();
    while let Some(index) = ready.pop() {
        for &next in &waiting[index] {
            waits_for[next] -= 1;
            if waits_for[next] == 0 {
                ready.push(next);
            }
        }
    }
    match waits_for.iter().position(|left| *left > 0) {
        Some(index) => Err(at(
            &graph.node[index],
            "it waits for its own output (the graph has a cycle)",
        )),
        None => Ok(()),
    }
}

/// The names that a node reads, those that its subgraphs take from around them included.
fn reads<'a>(node: &'a NodeProto, names: &mut Vec<&'a str>, depth: usize) {
    names.extend(node.input.iter().map(String::as_str));
    if depth > 0 {
        let inner = node
            .attribute
            .iter()
            .flat_map(subgraphs)
            .flat_map(|graph| &graph.node);
        inner.for_each(|node| reads(node, names, depth - 1));
    }
}

fn at(node: &NodeProto, problem: &str) -> Error {
    Error::invalid(format!(
        "operator {} (node '{}'): {problem}",
        node.op_type, node.name
    ))
}

/// Checks that a tensor holds what its shape and type need.
fn check_tensor(tensor: &TensorProto, folder: Option<&Path>) -> Result<()> {
    let TensorProto { name, dims, .. } = tensor;
    let refuse = |problem: String| {
        Error::invalid(format!(
            "tensor '{name}' of shape {}: {problem}",
            Dims(dims)
        ))
    };
    if dims.len() > MOST_DIMENSIONS {
        let rank = dims.len();
        return Err(Error::invalid(format!(
            "tensor '{name}' has {rank} dimensions, more than the {MOST_DIMENSIONS} that are read"
        )));
    }
    let lengths = dims
        .iter()
        .map(|dim| usize::try_from(*dim))
        .collect::<Result<_, _>>();
    let shape = lengths.map_err(|_| refuse("a dimension is negative".to_owned()))?;
    let elements = Shape::new(shape)?.elements();
    let Some(element) = ElementType::from_number(tensor.data_type) else {
        return Err(refuse(format!(
            "its element type {} is not one of ONNX",
            tensor.data_type
        )));
    };
    if element.is_string() {
        return match tensor.string_data.len() {
            held if held == elements => Ok(()),
            held => Err(refuse(format!("it holds {held} strings"))),
        };
    }
    let too_large = || refuse("it has more bytes than can be addressed".to_owned());
    let needed = element.bytes(elements).ok_or_else(too_large)?;
    if tensor.data_location == EXTERNAL {
        let entries = tensor.external_data.iter();
        let entries = entries.map(|entry| (entry.key.as_str(), entry.value.as_str()));
        return External::locate(name, entries, needed, folder).map(|_| ());
    }
    match (tensor.raw_data.len(), typed_entries(tensor)) {
        (held, _) if held == needed => Ok(()),
        (0, entries) if entries == element.entries(elements) => Ok(()),
        (0, entries) => Err(refuse(format!("it holds {entries} elements"))),
        (held, _) => Err(refuse(format!("it needs {needed} bytes and holds {held}"))),
    }
}

/// The entries of the typed list that a tensor of this element type uses.
fn typed_entries(tensor: &TensorProto) -> usize {
    match tensor.data_type {
        1 | 14 => tensor.float_data.len(),
        11 | 15 => tensor.double_data.len(),
        7 => tensor.int64_data.len(),
        12 | 13 => tensor.uint64_data.len(),
        _ => tensor.int32_data.len(),
    }
}
