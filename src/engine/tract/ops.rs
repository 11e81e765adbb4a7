//! Operators of ai.onnx of our own, where tract's answer wrong, lack something that people export, or are not there.

mod log_sum_exp;
mod present;
mod recurrent;

use tract_onnx::Onnx;

/// Registers them; they replace tract's of the same name.
pub fn register(onnx: &mut Onnx) {
    log_sum_exp::register(onnx);
    recurrent::register(onnx);
}
