//! What is live: versions that take traffic, their queues and workers, and the map that requests look them up in.

pub mod agreement;
pub mod batcher;
pub mod board;
pub mod budget;
pub mod choosing;
mod class_names;
pub mod cost;
pub mod deployment;
pub mod golden;
pub mod joining;
pub mod knobs;
pub mod lane;
pub mod loading;
pub mod measuring;
pub mod memory;
pub mod moderation;
pub mod orders;
pub mod queue;
pub mod reconcile;
pub mod registry;
pub mod statistics;
mod sync;
pub mod trial;
pub mod usage;
