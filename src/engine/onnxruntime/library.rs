//! Where the library of ONNX Runtime is looked for. It is never downloaded.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::LibraryPath;

/// The library's name, before the number of its version.
const NAME: &str = "libonnxruntime.so";

/// Where it may be beside the folder of the executable.
const FOLDERS: [&str; 5] = [
    "/usr/local/lib",
    "/usr/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/opt/onnxruntime/lib",
];

/// The file that this setting means: for the usual places the one beside the executable, else the first in the usual
/// folders; or what was looked for in vain.
pub fn find(path: &LibraryPath) -> Result<PathBuf, String> {
    match path {
        LibraryPath::Off => Err("it is switched off".to_owned()),
        LibraryPath::Usual => {
            let beside = env::current_exe().ok();
            let beside = beside.as_deref().and_then(Path::parent);
            let mut folders = beside.into_iter().chain(FOLDERS.iter().map(Path::new));
            folders.find_map(newest_in).ok_or_else(|| {
                let folders = FOLDERS.join(", ");
                format!("no {NAME} beside the executable or in {folders}")
            })
        }
        LibraryPath::At(path) if path.is_dir() => {
            newest_in(path).ok_or_else(|| format!("no {NAME} in {}", path.display()))
        }
        // By its whole path: a bare name would be searched for elsewhere.
        LibraryPath::At(path) => path
            .canonicalize()
            .map_err(|error| format!("no library of ONNX Runtime at {}: {error}", path.display())),
    }
}

/// The library in a folder: under its plain name, that of its major version, or the newest full version.
fn newest_in(folder: &Path) -> Option<PathBuf> {
    let version = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let rest = name.strip_prefix(NAME)?;
        let numbers = rest.split('.').skip(1).map(|number| number.parse().ok());
        let numbers = numbers.collect::<Option<Vec<u32>>>()?;
        // Fewer numbers come first: a link that its owner has set means the one to take.
        let order = (std::cmp::Reverse(numbers.len().min(2)), numbers);
        (rest.is_empty() || order.1.first() == Some(&1)).then_some(order)
    };
    let files = fs::read_dir(folder).ok()?;
    let files = files.filter_map(|entry| Some(entry.ok()?.path()));
    let files = files.filter(|path| version(path).is_some() && path.is_file());
    files.max_by_key(|path| version(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], expected: Option<&str>) {
        let folder = tempfile::tempdir().expect("a folder can be made");
        for name in names {
            fs::write(folder.path().join(name), "").expect("a file can be written");
        }
        let found = find(&LibraryPath::At(folder.path().to_owned())).ok();
        assert_eq!(found, expected.map(|name| folder.path().join(name)));
    }

    #[test]
    fn a_link_comes_before_a_version_and_the_newest_version_before_others() {
        check(
            &["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1"],
            Some("libonnxruntime.so.1.31.1"),
        );
        check(
            &["libonnxruntime.so.1", "libonnxruntime.so.1.31.1"],
            Some("libonnxruntime.so.1"),
        );
        check(
            &["libonnxruntime.so", "libonnxruntime.so.1"],
            Some("libonnxruntime.so"),
        );
    }

    #[test]
    fn what_only_looks_like_it_is_left_alone() {
        check(
            &[
                "libonnxruntime.so.bak",
                "libonnxruntime.so.2.0.0",
                "libonnx.so",
            ],
            None,
        );
    }

    #[test]
    fn a_path_that_is_not_there_is_told() {
        let reason = find(&LibraryPath::At("/nowhere/libonnxruntime.so".into()));
        let reason = reason.expect_err("there is no such file");
        assert!(reason.contains("/nowhere/libonnxruntime.so"), "{reason}");
    }
}
