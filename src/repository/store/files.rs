//! What tells a version's files from others: all that stand beside its ONNX file, for external data may have any name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{file_name, listed};
use crate::repository::layout::{MODEL_MANIFEST, golden_folder};
use crate::repository::manifest::version_number;
use crate::repository::stamp::{Stamp, Stamping};

/// Further files are not looked at.
const MOST_FILES: usize = 10_000;
/// Nor are deeper folders, which also ends links that lead in a circle.
const DEEPEST: usize = 4;

/// Where a version is.
pub struct Place<'a> {
    pub file: &'a Path,
    /// For a file without a folder of its own: the names beside it.
    pub siblings: Option<&'a [String]>,
}

/// The stamp of a version's files. The folders that they are in are added to `folders`.
pub fn stamp(place: &Place, folders: &mut BTreeSet<PathBuf>) -> Stamp {
    let mut walk = Walk {
        stamping: Stamping::default(),
        left: MOST_FILES,
        folders,
    };
    let folder = place.file.parent().unwrap_or(Path::new("."));
    match place.siblings {
        None => walk.folder(folder, "", 0),
        Some(siblings) => walk.bare(folder, &file_name(place.file), siblings),
    }
    if place.siblings.is_some()
        && let Some(golden) = golden_folder(place.file).filter(|golden| golden.is_dir())
    {
        walk.folder(&golden, "", 1);
    }
    walk.stamping.stamp()
}

struct Walk<'a> {
    stamping: Stamping,
    left: usize,
    folders: &'a mut BTreeSet<PathBuf>,
}

impl Walk<'_> {
    /// The files in a version's folder and below it. Hidden ones are an editor's or a file system's own.
    fn folder(&mut self, folder: &Path, within: &str, depth: usize) {
        self.folders.insert(folder.to_owned());
        let names = match listed(folder) {
            Ok(names) => names,
            Err(error) => return self.stamping.remark(&format!("{within}: {error}")),
        };
        let is_own = |name: &&String| {
            let is_other =
                depth == 0 && (*name == MODEL_MANIFEST || version_number(name).is_some());
            !name.starts_with('.') && !is_other
        };
        for name in names.iter().filter(is_own) {
            let (path, within) = (folder.join(name), format!("{within}/{name}"));
            match path.metadata() {
                Ok(metadata) if metadata.is_dir() && depth < DEEPEST => {
                    self.folder(&path, &within, depth + 1);
                }
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) => {
                    let Some(left) = self.left.checked_sub(1) else {
                        return;
                    };
                    self.left = left;
                    self.stamping.file(&within, &metadata);
                }
                Err(error) => self.stamping.remark(&format!("{within}: {error}")),
            }
        }
    }

    /// A file among others: what begins like it belongs to it, such as `squeeze.onnx.data` to `squeeze.onnx`.
    fn bare(&mut self, folder: &Path, name: &str, siblings: &[String]) {
        let stem = name.strip_suffix("onnx").unwrap_or(name);
        let belongs = |other: &&String| {
            *other == name || (other.starts_with(stem) && !other.ends_with(".onnx"))
        };
        for other in siblings.iter().filter(belongs).take(MOST_FILES) {
            match folder.join(other).metadata() {
                Ok(metadata) if metadata.is_file() => self.stamping.file(other, &metadata),
                Ok(_) => {}
                Err(error) => self.stamping.remark(&format!("{other}: {error}")),
            }
        }
    }
}
