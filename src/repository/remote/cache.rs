//! The folder that a store is mirrored into.
//!
//! ```text
//! <cache>/<hash of the address>-<n>/    n is the first that no other process holds
//!   lock
//!   index.json                          what `models` holds; written last, by renaming
//!   blobs/<sha256>-<hash of the name>   every file, once it was read whole and checked
//!   models/iris/1/model.onnx            what is served, of links to blobs
//! ```
//!
//! Invariant: every file below `models` was checked, by this process. A process that dies leaves what the next one
//! checks again before it makes `models` anew. What has not changed is not touched, since whoever watches the folder
//! tells a change from a file's times, which a new link to it changes too.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ring::digest::{Context, SHA256};

use super::checksum::hex;
use super::index::{Entry, Files, Index};
use super::names::FileName;
use crate::config::RemoteConfig;
use crate::config::remote_url::RemoteUrl;
use crate::error::{Error, Result};

/// So many processes may mirror one address into one folder.
const MOST_SLOTS: usize = 64;
const INDEX: &str = "index.json";
const MODELS: &str = "models";

/// A folder must be ours where nobody chose it: its owner could put another one in the place of the cache.
#[derive(Debug, Clone, Copy)]
struct Owned;

/// A cache that this process alone uses.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
}

impl Cache {
    /// Takes the cache of an address in the folder that was chosen, or in the first of the `usual` ones that can be
    /// written to.
    pub fn open(config: &RemoteConfig, usual: &[PathBuf]) -> Result<Cache> {
        let RemoteConfig {
            url, cache_path, ..
        } = config;
        let chosen = cache_path.iter().map(|place| (place, None));
        let usual = usual.iter().map(|place| (place, Some(Owned)));
        let places: Vec<_> = match cache_path {
            Some(_) => chosen.collect(),
            None => usual.collect(),
        };
        let mut problems = Vec::new();
        for (place, owned) in places {
            match Cache::open_in(place, owned, url) {
                Ok(cache) => return Ok(cache),
                Err(error) => problems.push(format!("{}: {error}", place.display())),
            }
        }
        Err(Error::unavailable(format!(
            "there is no folder for the cache of {url}; set repository.cache_path ({})",
            problems.join("; ")
        )))
    }

    fn open_in(place: &Path, owned: Option<Owned>, url: &RemoteUrl) -> io::Result<Cache> {
        let place = &std::path::absolute(place)?;
        fs::create_dir_all(place)?;
        if let Some(Owned) = owned
            && fs::metadata(place)?.uid() != rustix::process::geteuid().as_raw()
        {
            return Err(io::Error::other("it belongs to another user"));
        }
        let name = hex(ring::digest::digest(&SHA256, url.to_string().as_bytes()).as_ref());
        for slot in 0..MOST_SLOTS {
            let folder = place.join(format!("{}-{slot}", &name[..16]));
            make_private(&folder)?;
            let lock = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(folder.join("lock"))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => continue,
                Err(fs::TryLockError::Error(error)) => return Err(error),
            }
            let cache = Cache {
                folder,
                _lock: lock,
            };
            cache.clear()?;
            return Ok(cache);
        }
        Err(io::Error::other(format!(
            "{MOST_SLOTS} other processes mirror the same address into it"
        )))
    }

    /// Removes what a process that died has left half done, and what nobody has checked yet.
    fn clear(&self) -> io::Result<()> {
        for name in ["halves", MODELS] {
            match fs::remove_dir_all(self.folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::create_dir_all(self.folder.join("halves"))?;
        fs::create_dir_all(self.folder.join("blobs"))
    }

    /// Where the repository stands, once something was published.
    pub fn models(&self) -> PathBuf {
        self.folder.join(MODELS)
    }

    /// A file that a download may be written to.
    pub fn half(&self, number: usize) -> PathBuf {
        self.folder.join("halves").join(number.to_string())
    }

    /// Keeps a file that was read whole and checked, with the time that the store has for it.
    pub fn keep(&self, half: &Path, name: &FileName, entry: &Entry) -> io::Result<()> {
        if let Ok(modified) = u64::try_from(entry.identity.modified_ms) {
            let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(modified);
            File::options()
                .write(true)
                .open(half)?
                .set_modified(modified)?;
        }
        // Models are never changed in place, here or through a link.
        fs::set_permissions(half, fs::Permissions::from_mode(0o400))?;
        fs::rename(half, self.blob(name, entry))
    }

    /// Files of the same bytes are kept apart, so that a link to one changes nothing about another.
    fn blob(&self, name: &FileName, entry: &Entry) -> PathBuf {
        self.folder.join("blobs").join(blob_name(name, entry))
    }

    /// The files of the index that are still as they were, and the names of those that are not.
    pub fn verified(&self, url: &RemoteUrl) -> (Files, BTreeSet<FileName>) {
        let (mut files, mut broken) = (Files::new(), BTreeSet::new());
        let Some(index) = self.index().filter(|index| index.url == url.to_string()) else {
            return (files, broken);
        };
        for (name, entry) in index.files {
            if self.is_whole(&name, &entry) {
                files.insert(name, entry);
            } else {
                // Out of the way of the one that is fetched anew.
                let _ = fs::remove_file(self.blob(&name, &entry));
                broken.insert(name);
            }
        }
        (files, broken)
    }

    fn index(&self) -> Option<Index> {
        let text = fs::read(self.folder.join(INDEX)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Whether a file is there with its length; only a start reads it.
    pub fn holds(&self, name: &FileName, entry: &Entry) -> bool {
        let blob = fs::metadata(self.blob(name, entry));
        blob.is_ok_and(|blob| blob.len() == entry.identity.size)
    }

    fn is_whole(&self, name: &FileName, entry: &Entry) -> bool {
        let sha256 = &entry.sha256;
        let is_hash = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash
            && self.holds(name, entry)
            && hash(&self.blob(name, entry)).is_ok_and(|hash| hash == *sha256)
    }

    /// Makes the folder that is seen hold these files instead of `before`. Where that breaks off, it is begun again.
    pub fn publish(&self, url: &RemoteUrl, before: &Files, files: &Files) -> io::Result<()> {
        let models = self.models();
        fs::create_dir_all(&models)?;
        for name in before.keys().filter(|name| !files.contains_key(name)) {
            match fs::remove_file(models.join(name.as_str())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => remove_empty_folders(&models, name),
            }
        }
        let half = self.folder.join("halves").join("link");
        for (name, entry) in files {
            let path = models.join(name.as_str());
            if before
                .get(name)
                .is_some_and(|old| old.sha256 == entry.sha256)
                && path.is_file()
            {
                continue;
            }
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            link(&self.blob(name, entry), &half)?;
            fs::rename(&half, path)?;
        }
        let half = self.folder.join("halves").join(INDEX);
        let index = Index {
            url: url.to_string(),
            files: files.clone(),
        };
        fs::write(&half, serde_json::to_vec_pretty(&index)?)?;
        fs::rename(&half, self.folder.join(INDEX))
    }

    /// Removes what neither the repository nor a later one needs.
    pub fn tidy(&self, needed: &[&Files]) {
        let files = needed.iter().flat_map(|files| files.iter());
        let needed: BTreeSet<String> = files.map(|(name, entry)| blob_name(name, entry)).collect();
        for blob in entries(&self.folder.join("blobs")) {
            let name = blob.file_name().and_then(|name| name.to_str());
            if name.is_none_or(|name| !needed.contains(name)) {
                let _ = fs::remove_file(blob);
            }
        }
    }

    /// The bytes of the files that are kept, and those that the file system has left.
    pub fn bytes(&self) -> Bytes {
        let blobs = self.folder.join("blobs");
        let kept = entries(&blobs)
            .filter_map(|blob| fs::metadata(blob).ok())
            .map(|blob| blob.len());
        let free = rustix::fs::statvfs(&self.folder).map(|disk| disk.f_bavail * disk.f_frsize);
        Bytes {
            kept: kept.sum(),
            free: free.unwrap_or(u64::MAX),
        }
    }
}

/// How much a cache takes and how much more it could.
#[derive(Debug, Clone, Copy)]
pub struct Bytes {
    pub kept: u64,
    pub free: u64,
}

/// A folder of ours that nobody else can write to: whoever could, could plant a model.
fn make_private(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(folder)?;
    let is_ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    if !is_ours || found.mode() & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "{} belongs to another user or can be written to by others",
            folder.display()
        )));
    }
    Ok(())
}

fn blob_name(name: &FileName, entry: &Entry) -> String {
    let name = hex(ring::digest::digest(&SHA256, name.as_str().as_bytes()).as_ref());
    format!("{}-{}", entry.sha256, &name[..16])
}

/// The folders that a file stood in, from the inside out, as far as nothing else is in them.
fn remove_empty_folders(models: &Path, name: &FileName) {
    let folders: Vec<_> = name.folders().collect();
    for folder in folders.into_iter().rev() {
        if fs::remove_dir(models.join(folder)).is_err() {
            return;
        }
    }
}

/// Not every file system has links.
fn link(blob: &Path, path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::hard_link(blob, path).or_else(|_| fs::copy(blob, path).map(|_| ()))
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(context.finish().as_ref())),
            length => context.update(&buffer[..length]),
        }
    }
}
