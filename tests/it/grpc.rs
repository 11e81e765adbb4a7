//! The gRPC face, as its clients see it.

mod drain;
mod errors;
mod health;
mod inference;
mod limits;
mod logged;
mod methods;
mod read_outs;
mod streams;
