//! Reads a repository from the file system.

mod files;
mod owned;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::files::{Place, stamp};
use self::owned::{Owned, stamp_of_problem};
use super::layout::{self, Entry, Found, Item, MODEL_FILE, REPOSITORY_MANIFEST};
use super::manifest::{self, RepositoryManifest};
use super::stamp::Stamping;
use super::{FoundModel, ModelFiles, Snapshot, Version, VersionFiles};
use crate::error::{Error, Result};

/// The owner's text files are small; a larger one is a mistake.
const MOST_TEXT_BYTES: u64 = 16 << 20;
/// A repository with more entries is a mistake too, such as a root folder of everything.
const MOST_ENTRIES: usize = 100_000;
/// How often a folder is looked at where nothing else is set.
const USUAL_INTERVAL: Duration = Duration::from_secs(2);

/// Where models come from: something that can be looked at again and again.
pub trait Source: Send + Sync {
    /// What is there now. Of `before`, which an earlier look gave, it may take over what has not changed.
    fn look(&self, before: &Snapshot) -> Result<Snapshot>;

    /// The folder or file that is looked at in the end, where events tell of changes.
    fn path(&self) -> &Path;

    /// How long to wait between two looks, where nothing else is set.
    fn interval(&self) -> Duration;

    /// When to look again after a look that failed, where that is worth while though nobody watches.
    fn again(&self) -> Option<Duration> {
        None
    }
}

/// A folder of models, or one ONNX file, of this machine.
pub struct Local {
    path: PathBuf,
}

impl Local {
    /// The repository at `path`.
    pub fn new(path: PathBuf) -> Local {
        Local { path }
    }
}

impl Source for Local {
    fn look(&self, before: &Snapshot) -> Result<Snapshot> {
        scan_after(&self.path, before)
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn interval(&self) -> Duration {
        USUAL_INTERVAL
    }
}

/// Reads what is in the repository at `path`: a folder of models, or one ONNX file.
pub fn scan(path: &Path) -> Result<Snapshot> {
    scan_after(path, &Snapshot::default())
}

/// The same, without reading again what has not changed since `before`.
fn scan_after(path: &Path, before: &Snapshot) -> Result<Snapshot> {
    if path.is_file() {
        return single_file(path);
    }
    let unreadable = |error| Error::unavailable(unreadable_folder(path)).with_source(error);
    let root = path.metadata().map_err(unreadable)?;
    let entries = listed(path).map_err(unreadable)?;
    let mut scan = Scan {
        before,
        snapshot: Snapshot {
            root: Some((root.dev(), root.ino())),
            folders: BTreeSet::from([path.to_owned()]),
            ..Snapshot::default()
        },
    };
    for name in &entries {
        scan.entry(path, name, &entries);
    }
    let mut snapshot = scan.snapshot;
    let manifest = path.join(REPOSITORY_MANIFEST);
    if let Ok(metadata) = manifest.metadata() {
        let mut stamping = Stamping::default();
        stamping.file(REPOSITORY_MANIFEST, &metadata);
        snapshot.stamp = stamping.stamp();
        snapshot.default_model = match snapshot.stamp == before.stamp {
            true => before.default_model.clone(),
            false => repository_manifest(&manifest)?.default,
        };
    }
    Ok(snapshot)
}

/// Reads one model from its folder.
pub fn read_model(folder: &Path) -> Result<ModelFiles> {
    let unreadable =
        |error| Error::not_found(format!("cannot read {}", folder.display())).with_source(error);
    let place = folder.canonicalize().map_err(unreadable)?;
    let mut scan = Scan {
        before: &Snapshot::default(),
        snapshot: Snapshot::default(),
    };
    let items = Entry::Folder(scan.items(&place).map_err(unreadable)?);
    let name = file_name(&place);
    let found = match layout::classify(folder, &name, &items) {
        Found::Model(name, versions) => scan.complete(folder, &name, versions, &[]).files,
        Found::PassedOver(reason) => Err(reason),
        Found::Nothing => Err(format!(
            "expected a model's folder, with {MODEL_FILE} or with version folders (1, 2, …) in which it is"
        )),
    };
    found.map_err(|problem| Error::unavailable(format!("{}: {problem}", folder.display())))
}

/// Whether a version's files are still those that were found.
pub fn is_as_found(files: &ModelFiles, version: Version) -> bool {
    let found = files.of_version(version);
    found.is_some_and(|found| are_as_found(&found))
}

/// Whether these files are still those that were found.
pub fn are_as_found(found: &VersionFiles) -> bool {
    let VersionFiles {
        path,
        is_bare,
        stamp: before,
    } = found;
    let siblings = path.parent().filter(|_| *is_bare).map(siblings);
    let place = Place {
        file: path,
        siblings: siblings.as_deref(),
    };
    stamp(&place, &mut BTreeSet::new()) == *before
}

/// The names in the folder of a bare file, which may be the working one.
fn siblings(folder: &Path) -> Vec<String> {
    let folder = match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    };
    listed(folder).unwrap_or_default()
}

fn single_file(path: &Path) -> Result<Snapshot> {
    let name = file_name(path);
    if !name.ends_with(".onnx") {
        let place = path.display();
        return Err(Error::unavailable(format!(
            "the model repository {place} is neither a folder nor an .onnx file"
        )));
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    let siblings = siblings(parent);
    let mut scan = Scan {
        before: &Snapshot::default(),
        snapshot: Snapshot::default(),
    };
    let found = layout::classify(path, &name, &Entry::File);
    scan.add(path, found, &siblings);
    scan.snapshot.folders.insert(parent.join("."));
    Ok(scan.snapshot)
}

fn repository_manifest(path: &Path) -> Result<RepositoryManifest> {
    let read = read_text(path).and_then(|text| manifest::parse(&text));
    read.map_err(|problem| Error::unavailable(format!("{REPOSITORY_MANIFEST}: {problem}")))
}

fn unreadable_folder(path: &Path) -> String {
    let place = std::env::current_dir()
        .map(|folder| folder.join(path))
        .unwrap_or_else(|_| path.to_owned());
    format!("the model repository {} cannot be read", place.display())
}

/// A look that is being taken.
struct Scan<'a> {
    before: &'a Snapshot,
    snapshot: Snapshot,
}

impl Scan<'_> {
    /// Looks at one name in the repository's folder.
    fn entry(&mut self, root: &Path, name: &str, siblings: &[String]) {
        let path = root.join(name);
        let entry = match path.metadata() {
            Ok(metadata) if metadata.is_dir() => {
                self.snapshot.folders.insert(path.clone());
                self.items(&path).map(Entry::Folder)
            }
            Ok(metadata) if metadata.is_file() => Ok(Entry::File),
            Ok(_) => return,
            // It went while it was looked for, or is a link that leads nowhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => Err(error),
        };
        match entry {
            Ok(entry) => self.add(&path, layout::classify(&path, name, &entry), siblings),
            Err(error) => self.unreadable(name, &error),
        }
    }

    /// What was there a moment ago and cannot be read now is not gone.
    fn unreadable(&mut self, name: &str, error: &io::Error) {
        let model = name.strip_suffix(".onnx").unwrap_or(name);
        match self.before.models.get(model) {
            Some(found) => {
                let models = &mut self.snapshot.models;
                models.insert(model.to_owned(), found.clone());
            }
            // Nobody can tell whether it is a model: a start that waits for all of them must not go on without it.
            None if layout::is_name(model) && name != REPOSITORY_MANIFEST => {
                let problem = format!("'{name}' cannot be read: {error}");
                let mut stamping = Stamping::default();
                stamping.remark(&problem);
                let found = FoundModel {
                    files: Err(problem),
                    stamp: stamping.stamp(),
                };
                self.snapshot.models.insert(model.to_owned(), found);
            }
            None => {
                let passed_over = &mut self.snapshot.passed_over;
                passed_over.push(format!("'{name}' (it cannot be read: {error})"));
            }
        }
    }

    fn items(&mut self, folder: &Path) -> io::Result<Vec<Item>> {
        let mut items = Vec::new();
        for name in listed(folder)? {
            let path = folder.join(&name);
            let is_version = manifest::version_number(&name).is_some();
            let model_file = is_version.then(|| path.join(MODEL_FILE).metadata());
            // What is no version may well be closed to the server, such as `lost+found`.
            let holds_model = match model_file {
                None => false,
                Some(Ok(metadata)) => metadata.is_file(),
                Some(Err(error)) if is_absent(&error) => false,
                Some(Err(error)) => return Err(error),
            };
            if !holds_model && is_version && path.is_dir() {
                // Its model file may still come.
                self.snapshot.folders.insert(path);
            }
            items.push(Item { name, holds_model });
        }
        Ok(items)
    }

    fn add(&mut self, path: &Path, found: Found, siblings: &[String]) {
        match found {
            Found::Nothing => {}
            Found::PassedOver(reason) => self.snapshot.passed_over.push(reason),
            Found::Model(name, versions) => {
                let mut found = self.complete(path, &name, versions, siblings);
                if self.snapshot.models.contains_key(&name) {
                    found.files = Err(format!("'{name}' and '{name}.onnx' are both there"));
                }
                self.snapshot.models.insert(name, found);
            }
        }
    }

    /// Adds what the owner wrote beside the versions, and what tells their files from others.
    fn complete(
        &mut self,
        folder: &Path,
        name: &str,
        versions: Result<BTreeMap<Version, PathBuf>, String>,
        siblings: &[String],
    ) -> FoundModel {
        let owned = versions.and_then(|versions| {
            let before = self.before.models.get(name);
            let owned = match before.and_then(|before| Owned::unchanged(folder, before)) {
                Some(owned) => owned,
                None => Owned::read(folder)?,
            };
            Ok((versions, owned))
        });
        let (versions, owned) = match owned {
            Ok(complete) => complete,
            Err(problem) => {
                return FoundModel {
                    stamp: stamp_of_problem(folder, &problem),
                    files: Err(problem),
                };
            }
        };
        let folders = &mut self.snapshot.folders;
        let stamps = versions.iter().map(|(version, file)| {
            // A bare file is a model without a folder.
            let siblings = (file == folder).then_some(siblings);
            let place = Place { file, siblings };
            (*version, stamp(&place, folders))
        });
        let stamps = stamps.collect();
        let golden = versions
            .iter()
            .map(|(version, file)| (*version, golden(file)));
        let golden = golden.filter(|(_, files)| !files.is_empty()).collect();
        let is_bare = versions.values().any(|file| file == folder);
        let Owned {
            manifest,
            labels,
            stamp,
        } = owned;
        let files = ModelFiles {
            versions,
            stamps,
            is_bare,
            manifest,
            labels,
            golden,
        };
        FoundModel {
            files: Ok(files),
            stamp,
        }
    }
}

/// The names in a folder, in order.
fn listed(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if names.len() == MOST_ENTRIES {
            return Err(io::Error::other(format!(
                "{} has more than {MOST_ENTRIES} entries",
                folder.display()
            )));
        }
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether this says that something is not there, rather than that nobody can tell.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The golden requests beside a version's file. A folder that cannot be listed stands for itself, so that whoever reads
/// it finds out why.
fn golden(file: &Path) -> Vec<PathBuf> {
    let Some(folder) = layout::golden_folder(file) else {
        return Vec::new();
    };
    // A link that leads nowhere is there all the same.
    if folder
        .symlink_metadata()
        .is_err_and(|error| is_absent(&error))
    {
        return Vec::new();
    }
    match listed(&folder) {
        Ok(names) => {
            let golden = names.into_iter().filter(|name| layout::is_golden(name));
            golden.map(|name| folder.join(name)).collect()
        }
        Err(_) => vec![folder],
    }
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

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::repository::layout::MODEL_MANIFEST;

    #[test]
    fn the_bundled_repository_is_read() {
        let snapshot = scan(Path::new("models")).expect("the bundled folder is readable");
        assert_eq!(
            snapshot.models.keys().collect::<Vec<_>>(),
            ["digits", "iris", "wine"]
        );
        assert_eq!(snapshot.default_model.as_deref(), Some("iris"));
        let iris = snapshot.models["iris"]
            .files
            .as_ref()
            .expect("iris is fit to load");
        assert_eq!(iris.labels, ["setosa", "versicolor", "virginica"]);
        assert_eq!(iris.versions.len(), 2);
    }

    /// A repository with one model of one version, and the model's folder.
    fn repository() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = folder.path().join("m");
        fs::create_dir(&model).expect("a temporary folder");
        fs::copy("models/iris/1/model.onnx", model.join(MODEL_FILE)).expect("the bundled model");
        (folder, model)
    }

    /// What is written while a look goes on shows at the next one at the latest.
    #[test]
    fn a_change_beside_a_look_is_not_lost() {
        let (folder, model) = repository();
        let source = Local::new(folder.path().to_owned());
        let look = |before: &Snapshot| source.look(before).expect("readable");
        let priority = |snapshot: &Snapshot| {
            let files = snapshot.models["m"].files.as_ref();
            files.ok().map(|files| files.manifest.priority_levels)
        };
        let mut before = look(&Snapshot::default());
        for round in 0..500 {
            let levels = 2 + round % 7;
            let write = || {
                (0..round * 40).for_each(|_| std::hint::spin_loop());
                let (written, place) = (model.join("written"), model.join(MODEL_MANIFEST));
                fs::write(&written, format!("priority_levels = {levels}")).expect("a file");
                fs::rename(&written, &place).expect("the same folder");
            };
            before = std::thread::scope(|scope| {
                scope.spawn(write);
                look(&before)
            });
            before = look(&before);
            assert_eq!(priority(&before), Some(levels), "in round {round}");
        }
    }

    #[test]
    fn a_single_file_is_a_repository_too() {
        let snapshot = scan(Path::new("models/iris/1/model.onnx")).expect("the file is there");
        assert!(snapshot.models["model"].files.is_ok());
    }

    #[test]
    fn a_model_with_a_bad_manifest_carries_the_reason() {
        let (folder, model) = repository();
        fs::write(
            model.join(MODEL_MANIFEST),
            "labels = { output = \"y\", file = \"../x\" }",
        )
        .expect("a temporary file");
        let snapshot = scan(folder.path()).expect("readable");
        let reason = snapshot.models["m"]
            .files
            .as_ref()
            .expect_err("the label file lies outside");
        assert!(reason.contains("beside it"), "{reason}");
    }

    /// A link that leads to itself is as unreadable to root as a closed folder is to others.
    #[test]
    fn what_cannot_be_read_is_a_model_that_cannot_be_loaded() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        fs::create_dir_all(root.join("half/1")).expect("a temporary folder");
        fs::create_dir(root.join("whole")).expect("a temporary folder");
        fs::copy("models/iris/1/model.onnx", root.join("whole/model.onnx")).expect("it is bundled");
        let loops = [
            "closed",
            "half/1/model.onnx",
            "lost+found",
            "whole/lost+found",
        ];
        for name in loops {
            std::os::unix::fs::symlink(root.join(name), root.join(name)).expect("the name is free");
        }
        let first = scan(root).expect("readable");
        for (name, place) in [("closed", "'closed'"), ("half", "'half'")] {
            let reason = first.models[name].files.as_ref().expect_err(name);
            let start = format!("{place} cannot be read: ");
            assert!(reason.starts_with(&start), "{reason}");
        }
        assert!(first.models["whole"].files.is_ok());
        let passed_over = first.passed_over.join("; ");
        assert!(
            passed_over.starts_with("'lost+found' (it cannot be read"),
            "{passed_over}"
        );
        assert_eq!(first.models.len(), 3);

        fs::remove_file(root.join("half/1/model.onnx")).expect("it is there");
        fs::copy("models/iris/1/model.onnx", root.join("half/1/model.onnx")).expect("the bundled");
        let second = scan_after(root, &first).expect("readable");
        assert!(second.models["half"].files.is_ok(), "once it can be read");
    }

    #[test]
    fn a_folder_of_golden_requests_that_cannot_be_listed_is_no_empty_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let model = folder.path().join(MODEL_FILE);
        assert!(golden(&model).is_empty());
        let link = folder.path().join(layout::GOLDEN_FOLDER);
        std::os::unix::fs::symlink("nowhere", &link).expect("a link");
        assert_eq!(golden(&model), [link]);
    }

    #[test]
    fn any_file_of_a_version_tells_that_it_is_another() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let version = folder.path().join("m/1");
        fs::create_dir_all(&version).expect("a temporary folder");
        fs::copy("models/iris/1/model.onnx", version.join(MODEL_FILE)).expect("a bundled model");
        let snapshot = scan(folder.path()).expect("readable");
        let files = snapshot.models["m"].files.as_ref().expect("sound");
        let found = files.of_version(1).expect("there");
        assert!(are_as_found(&found));
        fs::write(version.join("weights.data"), "1").expect("a temporary file");
        assert!(!are_as_found(&found));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = scan(Path::new("/no/such/folder")).expect_err("it is not there");
        assert!(error.chain().contains("/no/such/folder"));
    }
}
