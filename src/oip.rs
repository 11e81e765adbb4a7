//! The JSON forms of inference requests and answers: the Open Inference Protocol's, and the rows and columns of
//! `/predict`, which share its numbers and its limits.
//!
//! Decoding goes from bytes straight into typed buffers through serde visitors; no tree of JSON values is ever
//! built for tensor data, and raw tensors are slices of the body. Encoding writes bytes straight from the tensors. Nothing here knows a transport.

pub mod binary;
pub mod elements;
pub mod example;
pub mod numbers;
pub mod parameters;
pub mod recorded;
pub mod request;
pub mod response;
pub mod tokens;

/// How a request spelled its tensors; the answer uses the same spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `{"instances": [row, …]}`, answered with `predictions`.
    Rows,
    /// `{"inputs": {name: nested, …}}` or `{"inputs": nested}`, answered with `outputs`.
    Columns,
    /// The Open Inference Protocol's list of tensor objects.
    Protocol,
}

/// How JSON answers spell NaN and the infinities, which JSON has no numbers for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NanForm {
    /// As `null`, which every JSON parser reads.
    #[default]
    Null,
    /// As the bare tokens `NaN`, `Infinity` and `-Infinity`, which Python and rapidjson read.
    Token,
}
