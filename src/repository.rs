//! What is in storage: the models of a folder, their versions, and what their owners wrote beside them.
//!
//! `store` reads the folder, `layout` makes sense of the listing, `manifest` reads `model.toml`,
//! `repository.toml` and label files, `stamp` tells whether files have changed, `policy` picks the versions to serve,
//! `diff` compares two moments, and `watch` looks again and again. All but `store` and `watch` are pure.

pub mod diff;
pub mod layout;
pub mod manifest;
pub mod policy;
pub mod remote;
pub mod scheduling;
pub mod stamp;
pub mod store;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use manifest::ModelManifest;
use stamp::Stamp;

/// A version's number; `v2` and `2` are both 2.
pub type Version = u64;

/// The models that a repository holds at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    pub models: BTreeMap<String, FoundModel>,
    /// The default model that `repository.toml` names.
    pub default_model: Option<String>,
    /// Of `repository.toml`.
    pub stamp: Stamp,
    /// What was passed over and why, for the log and for whoever wonders where a model is.
    pub passed_over: Vec<String>,
    /// The folders in which something can change, for whoever listens there.
    pub folders: BTreeSet<PathBuf>,
    /// Which folder the repository is, so that another one in its place is known.
    pub root: Option<FolderIdentity>,
}

/// A folder's device and inode.
pub type FolderIdentity = (u64, u64);

/// One model as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundModel {
    /// What is to be loaded, or why nothing can be.
    pub files: Result<ModelFiles, String>,
    /// Of what its owner wrote beside the versions.
    pub stamp: Stamp,
}

/// The files of one model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelFiles {
    /// Each version's ONNX file.
    pub versions: BTreeMap<Version, PathBuf>,
    /// Each version's files, of which the ONNX file is one.
    pub stamps: BTreeMap<Version, Stamp>,
    /// Whether the model is one file beside others, without a folder of its own.
    pub is_bare: bool,
    pub manifest: ModelManifest,
    /// The class names that `labels` in `model.toml` points at.
    pub labels: Vec<String>,
    /// The golden requests beside each version that has some, in the order of their names.
    pub golden: BTreeMap<Version, Vec<PathBuf>>,
}

/// One version's files as they were found.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionFiles {
    /// The ONNX file.
    pub path: PathBuf,
    /// Whether it is one file beside others, without a folder of its own.
    pub is_bare: bool,
    /// Of all its files.
    pub stamp: Stamp,
}

/// What one version is made from: equal only where loading it again would load the same.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    pub stamp: Stamp,
    manifest: ModelManifest,
    labels: Vec<String>,
}

impl ModelFiles {
    /// The files of a version that is there.
    pub fn of_version(&self, version: Version) -> Option<VersionFiles> {
        Some(VersionFiles {
            path: self.versions.get(&version)?.clone(),
            is_bare: self.is_bare,
            stamp: self.stamps.get(&version).copied().unwrap_or_default(),
        })
    }

    /// What a version is made from.
    pub fn origin(&self, version: Version) -> Origin {
        Origin {
            stamp: self.stamps.get(&version).copied().unwrap_or_default(),
            manifest: self.manifest.without_choices(),
            labels: self.labels.clone(),
        }
    }
}
