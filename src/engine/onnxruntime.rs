//! The ONNX Runtime engine: its library is looked for when onnxd starts, and done without where there is none.
