//! What a model's owner wrote beside its versions: `model.toml`, and the class names that it points at.

use std::path::Path;

use super::{file_name, read_text};
use crate::repository::layout::MODEL_MANIFEST;
use crate::repository::manifest::{self, Labels, ModelManifest};
use crate::repository::stamp::{Stamp, Stamping};
use crate::repository::{FoundModel, ModelFiles};

pub struct Owned {
    pub manifest: ModelManifest,
    pub labels: Vec<String>,
    /// Of each file before it was read: one that changes meanwhile differs at the next look.
    pub stamp: Stamp,
}

impl Owned {
    /// Reads it from the model's folder, or says what is wrong with it.
    pub fn read(folder: &Path) -> Result<Owned, String> {
        let mut stamping = stamping(folder, None);
        let path = folder.join(MODEL_MANIFEST);
        let manifest = match path.is_file() {
            true => read_text(&path)
                .and_then(|text| ModelManifest::parse(&text))
                .map_err(|problem| format!("{MODEL_MANIFEST}: {problem}"))?,
            false => ModelManifest::default(),
        };
        let labels = match &manifest.labels {
            Some(Labels { file, .. }) => {
                add_file(&mut stamping, folder, file);
                read_labels(folder, file)?
            }
            None => Vec::new(),
        };
        Ok(Owned {
            manifest,
            labels,
            stamp: stamping.stamp(),
        })
    }

    /// What an earlier look has read of it, if it is the same now.
    pub fn unchanged(folder: &Path, before: &FoundModel) -> Option<Owned> {
        let ModelFiles {
            manifest, labels, ..
        } = before.files.as_ref().ok()?;
        let label_file = manifest.labels.as_ref().map(|labels| labels.file.as_str());
        let stamp = stamping(folder, label_file).stamp();
        (stamp == before.stamp).then(|| Owned {
            manifest: manifest.clone(),
            labels: labels.clone(),
            stamp,
        })
    }
}

/// What tells a model that cannot be read from what it was and what it will be.
pub fn stamp_of_problem(folder: &Path, problem: &str) -> Stamp {
    let mut stamping = stamping(folder, None);
    stamping.remark(problem);
    stamping.stamp()
}

fn stamping(folder: &Path, label_file: Option<&str>) -> Stamping {
    let mut stamping = Stamping::default();
    for name in [Some(MODEL_MANIFEST), label_file].into_iter().flatten() {
        add_file(&mut stamping, folder, name);
    }
    stamping
}

fn add_file(stamping: &mut Stamping, folder: &Path, name: &str) {
    if let Ok(metadata) = folder.join(name).metadata() {
        stamping.file(name, &metadata);
    }
}

/// Label files stand beside the versions; a path that leads elsewhere is refused.
fn read_labels(folder: &Path, file: &str) -> Result<Vec<String>, String> {
    if file_name(Path::new(file)) != file {
        return Err(format!(
            "{MODEL_MANIFEST}: labels.file must be a file beside it, got '{file}'"
        ));
    }
    let text = read_text(&folder.join(file))
        .map_err(|problem| format!("{MODEL_MANIFEST}: labels.file {file}: {problem}"))?;
    Ok(manifest::label_lines(&text))
}
