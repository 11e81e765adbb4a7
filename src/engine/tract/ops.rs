//! Operators of ai.onnx of our own, where tract's answer wrong, lack something that people export, or are not there.

mod affine_grid;
mod bits;
pub mod builtin;
mod cast;
mod col2im;
mod compress;
mod deferred;
mod det;
mod frame;
mod gemm;
mod indices;
mod non_max_suppression;
mod one_hot;
mod pad;
mod pick;
mod pointwise;
mod pool;
pub mod present;
mod quantised;
mod quantize;
mod recurrent;
mod reduce;
mod reverse_sequence;
mod roi_align;
mod shape;
mod unique;
mod upsample;
mod window;

use tract_onnx::Onnx;

/// Registers them; they replace tract's of the same name.
pub fn register(onnx: &mut Onnx) {
    affine_grid::register(onnx);
    bits::register(onnx);
    cast::register(onnx);
    col2im::register(onnx);
    compress::register(onnx);
    det::register(onnx);
    frame::register(onnx);
    gemm::register(onnx);
    indices::register(onnx);
    non_max_suppression::register(onnx);
    one_hot::register(onnx);
    pad::register(onnx);
    pointwise::register(onnx);
    pool::register(onnx);
    quantised::register(onnx);
    quantize::register(onnx);
    recurrent::register(onnx);
    reduce::register(onnx);
    reverse_sequence::register(onnx);
    shape::register(onnx);
    roi_align::register(onnx);
    unique::register(onnx);
    upsample::register(onnx);
}
