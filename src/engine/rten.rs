//! The rten engine: pure Rust, with control flow and dynamic shapes.
