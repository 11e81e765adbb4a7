//! Makes an example request that a model accepts, for `onnxd inspect`.

use super::NanForm;
use super::response::write_tensor_object;
use crate::error::Result;
use crate::tensor::shape::Shape;
use crate::tensor::signature::{Dim, Signature, TensorSpec};
use crate::tensor::value::{NamedTensor, Tensor};

/// One tensor of zeros (or empty strings) for every input; dynamic dimensions are 1.
pub fn inputs(signature: &Signature) -> Result<Vec<NamedTensor>> {
    signature
        .inputs
        .iter()
        .map(|spec| {
            Ok(NamedTensor {
                name: spec.name.clone(),
                tensor: zeros(spec)?,
            })
        })
        .collect()
}

fn zeros(spec: &TensorSpec) -> Result<Tensor> {
    let length = |dim: &Dim| match dim {
        Dim::Fixed(length) => *length,
        Dim::Dynamic(_) => 1,
    };
    let dims = spec.dims.as_deref().unwrap_or(&[Dim::Dynamic(None)]);
    let shape = Shape::new(dims.iter().map(length).collect())?;
    let bytes = shape.elements() * spec.dtype.width().unwrap_or(size_of::<u32>());
    Tensor::new(spec.dtype, shape, vec![0; bytes].into())
}

/// The Open Inference Protocol's body for these inputs, which `/predict` accepts as well.
pub fn body(inputs: &[NamedTensor]) -> String {
    let mut out = b"{\"inputs\":[".to_vec();
    for (index, input) in inputs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_tensor_object(&mut out, input, NanForm::Null);
    }
    out.extend_from_slice(b"]}");
    String::from_utf8(out).expect("JSON is text")
}
