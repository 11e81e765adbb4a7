//! onnxd: serves ONNX models over HTTP.

use std::process::ExitCode;

use onnxd::allocator::Bounded;

/// A request is some dozens of short-lived allocations on whichever thread is free; `benches/throughput.rs` tells
/// what this allocator saves there.
#[global_allocator]
static ALLOCATOR: Bounded<mimalloc::MiMalloc> = Bounded(mimalloc::MiMalloc);

fn main() -> ExitCode {
    onnxd::cli::run()
}
