//! The rten engine: pure Rust, with control flow and dynamic shapes.

use std::sync::Arc;

use super::{Attempt, Engine, Model, ModelSource};
use crate::error::{Error, Result};

/// Stub.
#[derive(Clone, Default)]
pub struct RtenEngine;
impl Engine for RtenEngine {
    fn name(&self) -> &'static str {
        "rten"
    }
    fn load(&self, _: &ModelSource, _: &mut Vec<Attempt>) -> Result<Arc<dyn Model>> {
        Err(Error::unimplemented("stub"))
    }
}
