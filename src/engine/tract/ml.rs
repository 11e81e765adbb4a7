//! Our own operators of the domain ai.onnx.ml, in place of tract's.
//!
//! Each is a pure function of its input tensors behind [`Operator`]; [`Host`] is all that tract sees of them.

mod classes;
mod columns;
mod features;
mod forest;
pub mod host;
mod index;
mod label_encoder;
mod lanes;
mod linear;
mod normalizer;
mod one_hot;
mod scores;
mod svm;
mod trees;
mod zipmap;

use tract_onnx::Onnx;

/// Registers the operators; they replace tract's own of the same name.
pub fn register(onnx: &mut Onnx) {
    columns::register(&mut onnx.op_register);
    features::register(&mut onnx.op_register);
    label_encoder::register(&mut onnx.op_register);
    linear::register(&mut onnx.op_register);
    normalizer::register(&mut onnx.op_register);
    one_hot::register(&mut onnx.op_register);
    svm::register(&mut onnx.op_register);
    trees::register(&mut onnx.op_register);
    zipmap::register(&mut onnx.op_register);
}
