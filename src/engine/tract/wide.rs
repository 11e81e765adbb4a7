//! Where tract would lose bits of an INT64: it takes what meets a symbolic dimension for one and keeps 32 bits of it.
//!
//! Such a plan for every shape is not used; in plans for concrete shapes there are no symbolic dimensions to meet.

use std::collections::HashSet;

use tract_onnx::pb::{ModelProto, NodeProto, TensorProto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;
use tract_onnx::tract_hir::tract_core::ops::cast::Cast;

/// What a model's owner is told.
pub const REASON: &str =
    "INT64 values would meet symbolic dimensions, of which tract keeps 32 bits";

/// Whether a constant of the graph that is used for more than the bounds of a Slice does not fit into 32 bits.
pub fn has_wide_constants(model: &ModelProto) -> bool {
    let Some(graph) = &model.graph else {
        return false;
    };
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
    let wide: HashSet<_> = initializers
        .chain(constants)
        .filter(|(_, tensor)| is_wide(tensor))
        .map(|(name, _)| name)
        .collect();
    let computes = |node: &&NodeProto| node.op_type != "Slice";
    !wide.is_empty()
        && graph
            .node
            .iter()
            .filter(computes)
            .flat_map(|node| &node.input)
            .any(|input| wide.contains(input.as_str()))
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
