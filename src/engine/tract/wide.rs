//! Where tract would lose bits of an INT64: it takes what meets a symbolic dimension for one and keeps 32 bits of it.
//!
//! Such a plan for every shape is not used; in plans for concrete shapes there are no symbolic dimensions to meet.

use std::collections::HashSet;

use tract_onnx::pb::{ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::cast::Cast;

use crate::error::{Error, Result};

/// What a model's owner is told.
pub const REASON: &str =
    "INT64 values would meet symbolic dimensions, of which tract keeps 32 bits";

/// Whether a constant of the graph that is used for more than the bounds of a Slice does not fit into 32 bits.
pub fn has_wide_constants(model: &ModelProto) -> bool {
    let computes = |node: &NodeProto, _: usize| node.op_type != "Slice";
    wide_input(model, computes).is_some()
}

/// Fails when a constant is to be a length that does not fit into 32 bits: tract would take it for another.
pub fn refuse_wide_lengths(model: &ModelProto) -> Result<()> {
    let is_shape = |node: &NodeProto, input: usize| match node.op_type.as_str() {
        "ConstantOfShape" => input == 0,
        "Expand" | "Reshape" | "Tile" => input == 1,
        _ => false,
    };
    let Some(NodeProto { name, op_type, .. }) = wide_input(model, is_shape) else {
        return Ok(());
    };
    Err(Error::unimplemented(format!(
        "operator {op_type} (node '{name}'): a length of more than 31 bits is not supported"
    )))
}

/// The first node with an input, of those that `counts`, that is a constant which does not fit into 32 bits.
fn wide_input(
    model: &ModelProto,
    counts: impl Fn(&NodeProto, usize) -> bool,
) -> Option<&NodeProto> {
    let graph = model.graph.as_ref()?;
    let constants = graph.node.iter().filter(|node| node.op_type == "Constant");
    let constants = constants.filter_map(|node| {
        let value = node
            .attribute
            .iter()
            .find_map(|attribute| attribute.t.as_ref())?;
        Some((node.output.first()?.as_str(), value))
    });
    let initializers = graph
        .initializer
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor));
    let wide = initializers
        .chain(constants)
        .filter(|(_, tensor)| is_wide(tensor));
    let wide: HashSet<_> = wide.map(|(name, _)| name).collect();
    graph.node.iter().find(|node| {
        let mut inputs = node.input.iter().enumerate();
        inputs.any(|(place, input)| wide.contains(input.as_str()) && counts(node, place))
    })
}

fn is_wide(tensor: &TensorProto) -> bool {
    use tract_onnx::pb::tensor_proto::DataType;
    let (numbers, _) = tensor.raw_data.as_chunks::<8>();
    tensor.data_type == DataType::Int64 as i32
        && numbers
            .iter()
            .any(|bytes| i32::try_from(i64::from_le_bytes(*bytes)).is_err())
}

/// Fails when values of a request are made dimensions.
pub fn refuse_narrowing(model: &TypedModel) -> TractResult<()> {
    for node in model.nodes() {
        let narrows = node.op_as::<Cast>().is_some_and(|cast| cast.to.is_tdim());
        if narrows {
            let input = model.outlet_fact(node.inputs[0])?;
            ensure!(
                input.konst.is_some() || input.datum_type != i64::datum_type(),
                "{REASON}"
            );
        }
    }
    Ok(())
}
