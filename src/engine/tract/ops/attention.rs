//! Attention is tract's, but for what tract would compute wrongly, which is refused.

use tract_onnx::Onnx;
use tract_onnx::tract_hir::internal::*;

use super::builtin::builtin;
use super::present::Present;

/// The position of the keys of earlier calls.
const PAST_KEY: usize = 4;

/// Registers the check before tract's operator.
pub fn register(onnx: &mut Onnx) {
    onnx.op_register.insert("Attention", |context, node| {
        for window in ["left_window_size", "right_window_size"] {
            let size = node.get_attr_opt::<i64>(window)?;
            ensure!(
                size.is_none_or(|size| size < 0),
                "{window} is not supported; export the layer as single operators"
            );
        }
        let is_causal = node.get_attr_opt::<i64>("is_causal")? == Some(1);
        ensure!(
            !is_causal || Present::of(&node.input).get(PAST_KEY).is_none(),
            "is_causal with past keys is not supported; export the layer as single operators"
        );
        builtin(context, node)
    });
}
