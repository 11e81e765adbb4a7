//! Operators of ai.onnx of our own, where tract's answer wrong, lack something that people export, or are not there.

mod bits;
mod builtin;
mod deferred;
mod log_sum_exp;
mod one_hot;
mod pick;
mod pointwise;
mod pool;
mod present;
mod quantised;
mod recurrent;
mod window;

use tract_onnx::Onnx;

/// Registers them; they replace tract's of the same name.
pub fn register(onnx: &mut Onnx) {
    bits::register(onnx);
    log_sum_exp::register(onnx);
    one_hot::register(onnx);
    pointwise::register(onnx);
    pool::register(onnx);
    quantised::register(onnx);
    recurrent::register(onnx);
}
