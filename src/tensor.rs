//! Tensors and the signatures that they are checked against: the vocabulary of every floor above.

pub mod batch;
pub mod difference;
pub mod dtype;
pub mod expectation;
pub mod raw;
pub mod sample;
pub mod shape;
pub mod signature;
pub mod value;
