//! Our own operators of the domain ai.onnx.ml, in place of tract's.
//!
//! Each is a pure function of its input tensors behind [`Operator`]; [`Host`] is all that tract sees of them.

mod classes;
mod features;
mod forest;
pub mod host;
mod labels;
mod linear;
mod scores;
mod trees;

use tract_onnx::Onnx;

/// Registers the operators; they replace tract's own of the same name.
pub fn register(onnx: &mut Onnx) {
    features::register(&mut onnx.op_register);
    labels::register(&mut onnx.op_register);
    linear::register(&mut onnx.op_register);
    trees::register(&mut onnx.op_register);
}
