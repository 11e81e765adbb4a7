//! The ONNX Runtime engine: its library is looked for when onnxd starts, and done without where there is none.

use crate::config::LibraryPath;

pub fn find(_: &LibraryPath) -> Option<super::tract::TractEngine> {
    None
}
