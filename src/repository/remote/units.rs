//! Which of a store's objects belong to models, and which of them are only good together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::index::Identity;
use super::names::FileName;
use super::store::Listing;
use crate::repository::layout::{MODEL_FILE, MODEL_MANIFEST, REPOSITORY_MANIFEST, is_name};
use crate::repository::manifest::version_number;

/// Files that are published together or not at all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// What stands beside the models: `repository.toml`, bare models.
    Root,
    /// A model's own files: its settings, its labels, a model without version folders.
    Model(String),
    /// One version's folder: model, folder.
    Version(String, String),
}

impl Unit {
    /// The unit that a file is part of.
    pub fn of(name: &FileName) -> Unit {
        let mut parts = name.parts();
        let (first, second, third) = (parts.next(), parts.next(), parts.next());
        match (first, second, third) {
            (Some(model), Some(folder), Some(_)) if version_number(folder).is_some() => {
                Unit::Version(model.to_owned(), folder.to_owned())
            }
            (Some(model), Some(_), _) => Unit::Model(model.to_owned()),
            _ => Unit::Root,
        }
    }

    /// The unit of the own files of the model that this one is part of.
    pub fn of_model(&self) -> Unit {
        match self {
            Unit::Version(model, _) => Unit::Model(model.clone()),
            unit => unit.clone(),
        }
    }

    /// The model's name, if it is one's.
    pub fn model(&self) -> Option<&str> {
        match self {
            Unit::Root => None,
            Unit::Model(model) | Unit::Version(model, _) => Some(model),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Root => out.write_str("the files beside the models"),
            Unit::Model(model) => write!(out, "{model}"),
            Unit::Version(model, version) => write!(out, "{model}/{version}"),
        }
    }
}

/// What of a listing is mirrored: the folders of models, and beside them what bare models and the repository's own
/// settings are made of. Training data that stands beside the models is left where it is.
pub fn wanted(listing: &Listing) -> BTreeMap<&FileName, &Identity> {
    let mut models = BTreeSet::new();
    let mut has_bare_models = false;
    for name in listing.files.keys() {
        let parts: Vec<_> = name.parts().collect();
        match parts.as_slice() {
            [file] if file.ends_with(".onnx") => has_bare_models = true,
            [model, MODEL_FILE | MODEL_MANIFEST] => {
                models.insert(*model);
            }
            [model, version, MODEL_FILE] if version_number(version).is_some() => {
                models.insert(*model);
            }
            _ => {}
        }
    }
    let is_wanted = |name: &FileName| {
        let mut parts = name.parts();
        match (parts.next(), parts.next()) {
            (Some(file), None) => file == REPOSITORY_MANIFEST || has_bare_models,
            // One with another name cannot be a model; its files are of no use here.
            (Some(model), Some(_)) => models.contains(model) && is_name(model),
            _ => false,
        }
    };
    let files = listing.files.iter();
    files.filter(|(name, _)| is_wanted(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_published_by_version_and_by_model() {
        #[track_caller]
        fn check(name: &str, shown: &str) {
            let name = FileName::parse(name).expect("valid");
            assert_eq!(Unit::of(&name).to_string(), shown);
        }
        check("repository.toml", "the files beside the models");
        check("iris/model.toml", "iris");
        check("iris/2/model.onnx", "iris/2");
        check("iris/v2/golden/a.json", "iris/v2");
        check("iris/notes/a.txt", "iris");
        check("iris/2", "iris");
    }

    #[test]
    fn only_what_models_are_made_of_is_mirrored() {
        let names = [
            "README.md",
            "bad name/model.onnx",
            "empty/model.toml",
            "iris/1/model.onnx",
            "iris/1/model.onnx.data",
            "iris/labels.txt",
            "repository.toml",
            "train/data/huge.bin",
        ];
        let mut listing = Listing::default();
        let identity = Identity {
            size: 1,
            etag: None,
            modified_ms: 0,
        };
        for name in names {
            let name = FileName::parse(name).expect("valid");
            listing.files.insert(name, identity.clone());
        }
        let shown = |listing: &Listing| -> Vec<String> {
            wanted(listing)
                .keys()
                .map(|name| name.to_string())
                .collect()
        };
        assert_eq!(
            shown(&listing),
            [
                "empty/model.toml",
                "iris/1/model.onnx",
                "iris/1/model.onnx.data",
                "iris/labels.txt",
                "repository.toml"
            ]
        );
        let bare = FileName::parse("squeeze.onnx").expect("valid");
        listing.files.insert(bare, identity);
        assert!(
            shown(&listing).contains(&"README.md".to_owned()),
            "it may be a bare model's data"
        );
    }
}
