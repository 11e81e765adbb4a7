//! What is in storage: the models of a folder, their versions, and what their owners wrote beside them.
//!
//! `store` reads the folder, `layout` makes sense of the listing, `manifest` reads `model.toml`,
//! `repository.toml` and label files, `policy` picks the versions to serve. All but `store` are pure.

pub mod layout;
pub mod manifest;
pub mod policy;
pub mod remote;
pub mod scheduling;
pub mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;

use manifest::ModelManifest;

/// A version's number; `v2` and `2` are both 2.
pub type Version = u64;

/// The models that a repository holds at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub models: BTreeMap<String, FoundModel>,
    /// The default model that `repository.toml` names.
    pub default_model: Option<String>,
    /// What was passed over and why, for the log and for whoever wonders where a model is.
    pub passed_over: Vec<String>,
}

/// One model as it was found: fit to be loaded, or with the reason why it is not.
pub type FoundModel = Result<ModelFiles, String>;

/// The files of one model.
#[derive(Debug, Clone, Default)]
pub struct ModelFiles {
    /// Each version's ONNX file.
    pub versions: BTreeMap<Version, PathBuf>,
    pub manifest: ModelManifest,
    /// The class names that `labels` in `model.toml` points at.
    pub labels: Vec<String>,
    /// The golden requests beside each version that has some, in the order of their names.
    pub golden: BTreeMap<Version, Vec<PathBuf>>,
}
