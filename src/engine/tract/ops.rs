//! Our own operators of the domain ai.onnx, where tract's answer wrongly or are missing.

mod log_sum_exp;

use tract_onnx::Onnx;

/// Registers the operators; they replace tract's of the same name.
pub fn register(onnx: &mut Onnx) {
    log_sum_exp::register(onnx);
}
