//! The requests that are recorded, as their author wrote them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::oip::tokens;
use crate::serving::golden::MOST_FILES;

/// One request, in any style that `/predict` takes.
pub struct Written {
    /// What its golden request will be called.
    pub name: String,
    /// JSON in which bare tokens were rewritten.
    pub json: String,
}

/// A golden request can be recorded anew.
#[derive(Deserialize)]
struct MaybeGolden<'a> {
    #[serde(borrow)]
    request: Option<&'a RawValue>,
}

/// Reads the requests in a file, one after the other, or in the files of a folder.
pub fn read(path: &Path) -> Result<Vec<Written>> {
    let mut requests = Vec::new();
    for file in files(path)? {
        requests.extend(read_file(&file)?);
        if requests.len() > MOST_FILES {
            return Err(Error::invalid(format!(
                "{} has more requests than the {MOST_FILES} that a version may have",
                path.display()
            )));
        }
    }
    if requests.is_empty() {
        return Err(Error::not_found(format!(
            "there is no request in {}; expected JSON, one request or several one after the other, or a folder of such files",
            path.display()
        )));
    }
    for (at, request) in requests.iter().enumerate() {
        if requests[..at]
            .iter()
            .any(|before| before.name == request.name)
        {
            return Err(Error::invalid(format!(
                "two requests would be recorded as {}.json",
                request.name
            )));
        }
    }
    Ok(requests)
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::not_found(format!("cannot read {}", path.display())).with_source(error)
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = fs::read_dir(path).map_err(unreadable(path))?;
    let is_request = |path: &PathBuf| {
        let is_json = path
            .extension()
            .is_some_and(|extension| extension == "json" || extension == "jsonl");
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        is_json && !is_hidden
    };
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(is_request)
        .collect();
    files.sort();
    Ok(files)
}

fn read_file(path: &Path) -> Result<Vec<Written>> {
    let text = fs::read(path).map_err(unreadable(path))?;
    let text = tokens::rewrite(&text).unwrap_or(text);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    // A golden request whose name begins with one would be passed over.
    let stem = stem.trim_start_matches('.');
    let values = serde_json::Deserializer::from_slice(&text).into_iter::<&RawValue>();
    // One more than there may be tells that there are too many.
    let values: Vec<_> = values
        .take(MOST_FILES + 1)
        .collect::<Result<_, _>>()
        .map_err(|error| {
            Error::invalid(format!("{} is not valid JSON: {error}", path.display()))
        })?;
    let count = values.len();
    let request = |(at, value): (usize, &&RawValue)| {
        let golden: Option<MaybeGolden<'_>> = serde_json::from_str(value.get()).ok();
        let request = golden.and_then(|golden| golden.request).unwrap_or(value);
        Written {
            name: match count {
                1 => stem.to_string(),
                _ => format!("{stem}-{:02}", at + 1),
            },
            json: request.get().to_owned(),
        }
    };
    Ok(values.iter().enumerate().map(request).collect())
}
