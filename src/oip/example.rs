//! Writes an example request, for `onnxd inspect`.

use super::NanForm;
use super::response::write_tensor_object;
use crate::tensor::value::NamedTensor;

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
