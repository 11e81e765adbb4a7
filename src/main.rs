//! onnxd: serves ONNX models over HTTP.

use std::process::ExitCode;

fn main() -> ExitCode {
    onnxd::cli::run()
}
