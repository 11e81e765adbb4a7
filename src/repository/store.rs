//! Reads a repository from the file system.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::layout::{self, Entry, Found, Item, MODEL_FILE, MODEL_MANIFEST, REPOSITORY_MANIFEST};
use super::manifest::{self, Labels, ModelManifest, RepositoryManifest};
use super::{FoundModel, ModelFiles, Snapshot};
use crate::error::{Error, Result};

/// The owner's text files are small; a larger one is a mistake.
const MOST_TEXT_BYTES: u64 = 16 << 20;

/// Reads what is in the repository at `path`: a folder of models, or one ONNX file.
pub fn scan(path: &Path) -> Result<Snapshot> {
    let mut snapshot = Snapshot::default();
    if path.is_file() {
        let name = file_name(path);
        if !name.ends_with(".onnx") {
            let place = path.display();
            return Err(Error::unavailable(format!(
                "the model repository {place} is neither a folder nor an .onnx file"
            )));
        }
        add(
            &mut snapshot,
            path,
            layout::classify(path, &name, &Entry::File),
        );
        return Ok(snapshot);
    }
    let unreadable = |error| Error::unavailable(unreadable_folder(path)).with_source(error);
    let mut paths: Vec<_> = fs::read_dir(path)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect()
        })
        .map_err(unreadable)?;
    paths.sort();
    for path in paths {
        let name = file_name(&path);
        let entry = match () {
            () if path.is_dir() => Entry::Folder(items(&path)),
            () if path.is_file() => Entry::File,
            () => continue,
        };
        add(&mut snapshot, &path, layout::classify(&path, &name, &entry));
    }
    let manifest = path.join(REPOSITORY_MANIFEST);
    if manifest.is_file() {
        let read =
            read_text(&manifest).and_then(|text| manifest::parse::<RepositoryManifest>(&text));
        let manifest = read
            .map_err(|problem| Error::unavailable(format!("{REPOSITORY_MANIFEST}: {problem}")))?;
        snapshot.default_model = manifest.default;
    }
    Ok(snapshot)
}

/// Reads one model from its folder.
pub fn read_model(folder: &Path) -> Result<ModelFiles> {
    let unreadable =
        |error| Error::not_found(format!("cannot read {}", folder.display())).with_source(error);
    let place = folder.canonicalize().map_err(unreadable)?;
    fs::read_dir(&place).map_err(unreadable)?;
    let items = Entry::Folder(items(&place));
    let found = match layout::classify(folder, &file_name(&place), &items) {
        Found::Model(_, versions) => versions.and_then(|versions| complete(folder, versions)),
        Found::PassedOver(reason) => Err(reason),
        Found::Nothing => Err(format!(
            "expected a model's folder, with {MODEL_FILE} or with version folders (1, 2, …) in which it is"
        )),
    };
    found.map_err(|problem| Error::unavailable(format!("{}: {problem}", folder.display())))
}

fn unreadable_folder(path: &Path) -> String {
    let place = std::env::current_dir()
        .map(|folder| folder.join(path))
        .unwrap_or_else(|_| path.to_owned());
    format!("the model repository {} cannot be read", place.display())
}

fn add(snapshot: &mut Snapshot, path: &Path, found: Found) {
    match found {
        Found::Nothing => {}
        Found::PassedOver(reason) => snapshot.passed_over.push(reason),
        Found::Model(name, versions) => {
            let model = versions.and_then(|versions| complete(path, versions));
            let twice = snapshot.models.contains_key(&name);
            let model = if twice {
                Err(format!("'{name}' and '{name}.onnx' are both there"))
            } else {
                model
            };
            snapshot.models.insert(name, model);
        }
    }
}

/// Adds what the owner wrote beside the versions.
fn complete(
    folder: &Path,
    versions: std::collections::BTreeMap<u64, std::path::PathBuf>,
) -> FoundModel {
    let path = folder.join(MODEL_MANIFEST);
    let manifest: ModelManifest = match path.is_file() {
        true => read_text(&path)
            .and_then(|text| ModelManifest::parse(&text))
            .map_err(|problem| format!("{MODEL_MANIFEST}: {problem}"))?,
        false => ModelManifest::default(),
    };
    let labels = match &manifest.labels {
        Some(Labels { file, .. }) => read_labels(folder, file)?,
        None => Vec::new(),
    };
    let golden = versions
        .iter()
        .map(|(version, file)| (*version, golden(file)));
    let golden = golden.filter(|(_, files)| !files.is_empty()).collect();
    Ok(ModelFiles {
        versions,
        manifest,
        labels,
        golden,
    })
}

/// The golden requests beside a version's file. A folder that cannot be listed stands for itself, so that whoever reads
/// it finds out why.
fn golden(file: &Path) -> Vec<PathBuf> {
    let Some(folder) = layout::golden_folder(file) else {
        return Vec::new();
    };
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(_) => return vec![folder],
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut golden: Vec<_> = paths
        .filter(|path| layout::is_golden(&file_name(path)))
        .collect();
    golden.sort();
    golden
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

fn read_text(path: &Path) -> Result<String, String> {
    let length = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if length > MOST_TEXT_BYTES {
        return Err(format!(
            "the file has {length} bytes, more than the {MOST_TEXT_BYTES} that are read"
        ));
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}

fn items(folder: &Path) -> Vec<Item> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let item = |entry: fs::DirEntry| {
        let holds_model = entry.path().join(MODEL_FILE).is_file();
        Item {
            name: entry.file_name().to_string_lossy().into_owned(),
            holds_model,
        }
    };
    entries.map(item).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_repository_is_read() {
        let snapshot = scan(Path::new("models")).expect("the bundled folder is readable");
        assert_eq!(
            snapshot.models.keys().collect::<Vec<_>>(),
            ["digits", "iris", "wine"]
        );
        assert_eq!(snapshot.default_model.as_deref(), Some("iris"));
        let iris = snapshot.models["iris"]
            .as_ref()
            .expect("iris is fit to load");
        assert_eq!(iris.labels, ["setosa", "versicolor", "virginica"]);
        assert_eq!(iris.versions.len(), 2);
    }

    #[test]
    fn a_single_file_is_a_repository_too() {
        let snapshot = scan(Path::new("models/iris/1/model.onnx")).expect("the file is there");
        assert!(snapshot.models["model"].is_ok());
    }

    #[test]
    fn a_model_with_a_bad_manifest_carries_the_reason() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = folder.path().join("m");
        fs::create_dir(&model).expect("a temporary folder");
        fs::copy("models/iris/1/model.onnx", model.join(MODEL_FILE)).expect("the bundled model");
        fs::write(
            model.join(MODEL_MANIFEST),
            "labels = { output = \"y\", file = \"../x\" }",
        )
        .expect("a temporary file");
        let snapshot = scan(folder.path()).expect("readable");
        let reason = snapshot.models["m"]
            .as_ref()
            .expect_err("the label file lies outside");
        assert!(reason.contains("beside it"), "{reason}");
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = scan(Path::new("/no/such/folder")).expect_err("it is not there");
        assert!(error.chain().contains("/no/such/folder"));
    }
}
