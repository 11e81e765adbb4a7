//! tract's own operators, for the cases that they compute right.

use std::sync::LazyLock;

use tract_onnx::Onnx;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

/// What every reader of a node gives.
pub type Built = TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

static TRACTS: LazyLock<Onnx> = LazyLock::new(tract_onnx::onnx);

/// The operator that tract makes of a node.
pub fn builtin(context: &ParsingContext, node: &NodeProto) -> Built {
    let operators = &TRACTS.op_register.0;
    let build = operators.get(&node.op_type);
    build.with_context(|| format!("tract has no {}", node.op_type))?(context, node)
}

/// The same of an operator that tract makes as an expansion, to be put into one of our own.
pub fn builtin_expansion(
    context: &ParsingContext,
    node: &NodeProto,
) -> TractResult<(Box<dyn Expansion>, Vec<String>)> {
    let (built, closures) = builtin(context, node)?;
    let built: &dyn Op = built.as_ref();
    let expansion = built.downcast_ref::<Box<dyn Expansion>>();
    let expansion =
        expansion.with_context(|| format!("tract's {} is not as expected", node.op_type))?;
    Ok((expansion.clone(), closures))
}
