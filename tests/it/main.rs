//! The server through its public faces: HTTP, the command line, the configuration.

mod codec;
mod commands;
mod compression;
mod connections;
mod drain;
mod elements;
mod engines;
mod fuzz;
mod headers;
mod health;
mod labelled;
mod limits;
mod metadata;
mod metrics;
mod not_found;
mod overload;
mod parity;
mod process;
mod repository;
mod requests;
mod settings;
mod styles;
mod support;
mod tensors;
mod tools;
mod versions;
