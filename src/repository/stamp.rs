//! Whether files have changed, told from what the file system says of them without reading them.

use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

/// Tells files from others in their place: by their names, lengths and times of change.
///
/// Inodes are left out: some file systems in user space number a file anew whenever it was forgotten, and a file that
/// takes another's place has another time of its own anyway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stamp {
    digest: u64,
    newest: Option<SystemTime>,
}

impl Stamp {
    /// When the newest of the files was last written to, where the file system knows.
    pub fn newest(&self) -> Option<SystemTime> {
        self.newest
    }
}

/// A stamp that is being made. The order of what is added counts.
#[derive(Default)]
pub struct Stamping {
    hasher: DefaultHasher,
    newest: Option<SystemTime>,
}

impl Stamping {
    /// Adds a file.
    pub fn file(&mut self, name: &str, metadata: &Metadata) {
        let written = (metadata.mtime(), metadata.mtime_nsec());
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        (name, metadata.len(), written, changed).hash(&mut self.hasher);
        self.newest = self.newest.max(metadata.modified().ok());
    }

    /// Adds something that was noticed, such as a file that cannot be looked at.
    pub fn remark(&mut self, text: &str) {
        text.hash(&mut self.hasher);
    }

    /// The stamp of all that was added.
    pub fn stamp(self) -> Stamp {
        Stamp {
            digest: self.hasher.finish(),
            newest: self.newest,
        }
    }
}

#[cfg(test)]
impl Stamp {
    /// A stamp for tests, unlike any with another number.
    pub fn numbered(digest: u64) -> Stamp {
        Stamp {
            digest,
            newest: None,
        }
    }
}
