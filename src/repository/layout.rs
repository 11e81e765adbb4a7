//! Makes sense of a listing: which entries are models, and which of their files are versions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Version;
use super::manifest::version_number;

/// The name of the file that a version is.
pub const MODEL_FILE: &str = "model.onnx";
/// The owner's settings beside a model's versions.
pub const MODEL_MANIFEST: &str = "model.toml";
/// The owner's settings beside the models.
pub const REPOSITORY_MANIFEST: &str = "repository.toml";

/// The folder with a version's golden requests, beside its model file.
pub const GOLDEN_FOLDER: &str = "golden";

/// One entry of the repository's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    File,
    /// The names inside, each with whether a version file stands in it.
    Folder(Vec<Item>),
}

/// Something inside a model's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub name: String,
    /// For a folder: whether `model.onnx` is in it.
    pub holds_model: bool,
}

/// What an entry turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A model of this name, with its versions or what is wrong with it.
    Model(String, Result<BTreeMap<Version, PathBuf>, String>),
    /// Would be a model, were it not for this.
    PassedOver(String),
    /// Something else, such as a README or a folder of scripts.
    Nothing,
}

/// Decides what the entry `name` at `path` is.
///
/// What begins with a dot is nobody's model: Kubernetes keeps the files of a ConfigMap behind `..data`, a file system
/// what it finds lost or deleted.
pub fn classify(path: &Path, name: &str, entry: &Entry) -> Found {
    if name.starts_with('.') {
        return Found::Nothing;
    }
    let (model, versions) = match entry {
        Entry::File => match name.strip_suffix(".onnx") {
            Some(stem) => (stem, Ok(BTreeMap::from([(1, path.to_owned())]))),
            None => return Found::Nothing,
        },
        Entry::Folder(items) => match is_model(items) {
            true => (name, versions(path, items)),
            false => return Found::Nothing,
        },
    };
    if !is_name(model) {
        return Found::PassedOver(format!(
            "'{name}' (a model's name has only letters, digits, '_', '.' and '-', and does not begin with '.')"
        ));
    }
    Found::Model(model.to_owned(), versions)
}

/// Whether clients can write this name in a URL: `[A-Za-z0-9_.-]+` without a leading dot.
pub fn is_name(name: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    !name.is_empty() && !name.starts_with('.') && name.bytes().all(valid)
}

/// Where the golden requests of a version are, whose model file this is; a bare file beside other models has none.
pub fn golden_folder(file: &Path) -> Option<PathBuf> {
    let has_folder = file.file_name()? == MODEL_FILE;
    Some(file.parent().filter(|_| has_folder)?.join(GOLDEN_FOLDER))
}

/// Whether a file in that folder is a golden request.
pub fn is_golden(name: &str) -> bool {
    !name.starts_with('.') && name.ends_with(".json")
}

fn is_model(items: &[Item]) -> bool {
    items.iter().any(|item| match item.name.as_str() {
        MODEL_FILE | MODEL_MANIFEST => true,
        name => item.holds_model && version_number(name).is_some(),
    })
}

fn versions(path: &Path, items: &[Item]) -> Result<BTreeMap<Version, PathBuf>, String> {
    let mut versions: BTreeMap<Version, PathBuf> = BTreeMap::new();
    let bare = items
        .iter()
        .filter(|item| item.name == MODEL_FILE)
        .map(|_| (1, path.join(MODEL_FILE)));
    let numbered = items
        .iter()
        .filter(|item| item.holds_model)
        .filter_map(|item| {
            Some((
                version_number(&item.name)?,
                path.join(&item.name).join(MODEL_FILE),
            ))
        });
    for (version, file) in bare.chain(numbered) {
        if let Some(other) = versions.insert(version, file.clone()) {
            return Err(format!(
                "version {version} is there twice: {} and {}",
                other.strip_prefix(path).unwrap_or(&other).display(),
                file.strip_prefix(path).unwrap_or(&file).display()
            ));
        }
    }
    match versions.is_empty() {
        true => Err(format!(
            "there is no {MODEL_FILE}, neither in the folder nor in one for a version (1, 2, …)"
        )),
        false => Ok(versions),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(items: &[&str]) -> Entry {
        let item = |name: &&str| match name.strip_suffix('/') {
            Some(folder) => Item {
                name: folder.to_owned(),
                holds_model: true,
            },
            None => Item {
                name: (*name).to_owned(),
                holds_model: false,
            },
        };
        Entry::Folder(items.iter().map(item).collect())
    }

    fn check(name: &str, entry: Entry) -> Found {
        classify(&Path::new("models").join(name), name, &entry)
    }

    fn model(name: &str, versions: &[(Version, &str)]) -> Found {
        let versions = versions
            .iter()
            .map(|(version, file)| (*version, PathBuf::from(file)));
        Found::Model(name.to_owned(), Ok(versions.collect()))
    }

    #[test]
    fn each_way_to_lay_out_a_model_is_found() {
        let numbered = model(
            "iris",
            &[
                (1, "models/iris/1/model.onnx"),
                (2, "models/iris/v2/model.onnx"),
            ],
        );
        assert_eq!(
            check("iris", folder(&["1/", "v2/", "model.toml", "README.md"])),
            numbered
        );
        assert_eq!(
            check("digits", folder(&["model.onnx"])),
            model("digits", &[(1, "models/digits/model.onnx")])
        );
        assert_eq!(
            check("squeeze.onnx", Entry::File),
            model("squeeze", &[(1, "models/squeeze.onnx")])
        );
    }

    #[test]
    fn golden_requests_are_beside_a_versions_file_and_not_beside_a_bare_one() {
        let folder = |file: &str| golden_folder(Path::new(file));
        let golden = |folder: &str| Some(PathBuf::from(folder));
        assert_eq!(folder("m/2/model.onnx"), golden("m/2/golden"));
        assert_eq!(folder("m/model.onnx"), golden("m/golden"));
        assert_eq!(folder("m.onnx"), None);
        assert!(is_golden("a.json"));
        // Among others what Kubernetes puts beside a ConfigMap's files.
        for other in ["..data", ".a.json", "README.md", "json"] {
            assert!(!is_golden(other), "{other}");
        }
    }

    #[test]
    fn what_is_no_model_is_passed_over_in_silence() {
        assert_eq!(check("README.md", Entry::File), Found::Nothing);
        assert_eq!(check("train", folder(&["iris.py", "old/"])), Found::Nothing);
        assert_eq!(check("..data", folder(&["model.onnx"])), Found::Nothing);
    }

    #[test]
    fn mistakes_are_told() {
        assert!(matches!(
            check("my model", folder(&["model.onnx"])),
            Found::PassedOver(_)
        ));
        let twice = check("iris", folder(&["2/", "v2/"]));
        assert!(
            matches!(twice, Found::Model(_, Err(reason)) if reason.contains("version 2 is there twice"))
        );
        let empty = check("iris", folder(&["model.toml"]));
        assert!(matches!(empty, Found::Model(_, Err(reason)) if reason.contains("no model.onnx")));
    }
}
