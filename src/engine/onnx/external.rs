//! Weights that an ONNX file keeps in a file of their own (`model.onnx.data`): found, checked, read.
//!
//! The file must be in the model's folder: a location that is absolute, climbs out, or leads out through a link is
//! refused, so that a model can never read what is not its own.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// A part of a file that was seen to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    path: PathBuf,
    offset: u64,
    length: usize,
}

impl External {
    /// Finds the data of the tensor `name`, which needs `needed` bytes. `entries` are the keys and values of its
    /// `external_data`: `location`, and where they are given `offset` and `length` in bytes.
    pub fn locate<'a>(
        name: &str,
        entries: impl Iterator<Item = (&'a str, &'a str)> + Clone,
        needed: usize,
        folder: Option<&Path>,
    ) -> Result<External> {
        let refuse =
            |reason: String| Error::invalid(format!("external data of tensor '{name}': {reason}"));
        let entry = |wanted: &str| {
            entries
                .clone()
                .find(|(key, _)| *key == wanted)
                .map(|(_, value)| value)
        };
        let number = |key: &str| {
            entry(key)
                .map(|text| {
                    text.parse::<u64>()
                        .map_err(|_| refuse(format!("{key} '{text}' is not a number of bytes")))
                })
                .transpose()
        };
        let location = entry("location").ok_or_else(|| refuse("no location is given".into()))?;
        let folder = folder.ok_or_else(|| refuse("the model was not read from a folder".into()))?;
        let path = inside(folder, location).map_err(refuse)?;
        let metadata = path
            .metadata()
            .map_err(|error| refuse(format!("{location}: {error}")))?;
        if !metadata.is_file() {
            return Err(refuse(format!("{location} is not a file")));
        }
        let size = metadata.len();
        let offset = number("offset")?.unwrap_or(0);
        let length = number("length")?.unwrap_or(size.saturating_sub(offset));
        if length != needed as u64 {
            return Err(refuse(format!(
                "the tensor needs {needed} bytes and the file gives it {length}"
            )));
        }
        match offset.checked_add(length) {
            Some(end) if end <= size => Ok(External {
                path,
                offset,
                length: needed,
            }),
            _ => Err(refuse(format!(
                "{length} bytes from byte {offset} on are beyond the {size} bytes of {location}"
            ))),
        }
    }

    /// The same file from its beginning to the end of this part.
    pub fn from_start(self) -> External {
        External {
            length: self.length + self.offset as usize,
            offset: 0,
            ..self
        }
    }

    /// How many bytes it has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Reads the data.
    pub fn read(&self) -> Result<Vec<u8>> {
        let read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            let mut data = vec![0; self.length];
            file.read_exact(&mut data).map(|()| data)
        };
        read().map_err(|error| {
            Error::unavailable(format!(
                "external data in {} cannot be read",
                self.path.display()
            ))
            .with_source(error)
        })
    }
}

/// The file that a location means, if it is in the folder.
fn inside(folder: &Path, location: &str) -> Result<PathBuf, String> {
    let normal = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if location.is_empty() || !Path::new(location).components().all(normal) {
        return Err(format!(
            "location '{location}' must be a path inside the model's folder"
        ));
    }
    let resolve = |path: &Path| {
        path.canonicalize()
            .map_err(|error| format!("{location}: {error}"))
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let (folder, path) = (resolve(folder)?, resolve(&folder.join(location))?);
    match path.starts_with(&folder) {
        true => Ok(path),
        false => Err(format!(
            "location '{location}' leads out of the model's folder"
        )),
    }
}
