//! What the cache holds, and what a listing makes of it. Pure, so that every course of events can be tried.
//!
//! Invariants: what is published of a unit is what one listing said of it, whole; and what the last listing does not
//! name stays until the next one does not name it either.

use std::collections::{BTreeMap, BTreeSet};

use object_store::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::names::FileName;
use super::store::Listing;
use super::units::{self, Unit};

/// What tells one state of an object from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub size: u64,
    pub etag: Option<String>,
    /// Milliseconds since 1970.
    pub modified_ms: i64,
}

impl Identity {
    pub fn of(object: &ObjectMeta) -> Identity {
        Identity {
            size: object.size,
            etag: object.e_tag.clone(),
            modified_ms: object.last_modified.timestamp_millis(),
        }
    }

    /// The ETag as `If-Match` takes it; weak ones match nothing there.
    pub fn strong_etag(&self) -> Option<String> {
        let etag = self.etag.as_deref()?;
        (!etag.starts_with("W/")).then(|| format!("\"{}\"", etag.trim_matches('"')))
    }

    /// Whether an answer is about the state that was listed, as far as both say what it is. Servers write the same
    /// ETag in more than one way.
    pub fn is_same_object(&self, answered: &Identity) -> bool {
        let bare = |etag: &str| etag.trim_start_matches("W/").trim_matches('"').to_owned();
        let etags = (self.etag.as_deref(), answered.etag.as_deref());
        self.size == answered.size
            && match etags {
                (Some(listed), Some(answered)) => bare(listed) == bare(answered),
                // Seconds are all that the head of an answer has.
                _ => {
                    let times =
                        [self.modified_ms, answered.modified_ms].map(|ms| ms.div_euclid(1000));
                    times[0] == times[1] || times.contains(&0)
                }
            }
    }
}

/// One file of the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub identity: Identity,
    /// Of its bytes, in hexadecimal; its name among the cache's blobs.
    pub sha256: String,
}

/// The files that are published, by name.
pub type Files = BTreeMap<FileName, Entry>;

/// What a listing makes of what is published.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What has to be fetched first.
    pub fetch: BTreeMap<FileName, Identity>,
    /// What is published that the listing does not name.
    pub missing: BTreeSet<FileName>,
}

/// Compares a listing with what is published and with what was fetched and is not published yet.
pub fn plan(listing: &Listing, published: &Files, fetched: &Files) -> Plan {
    let wanted = units::wanted(listing);
    let has = |files: &Files, name: &FileName, identity: &Identity| {
        files
            .get(name)
            .is_some_and(|entry| entry.identity == *identity)
    };
    let fetch = wanted
        .iter()
        .filter(|(name, identity)| !has(published, name, identity) && !has(fetched, name, identity))
        .map(|(name, identity)| ((*name).clone(), (*identity).clone()))
        .collect();
    let missing = published
        .keys()
        .filter(|name| !wanted.contains_key(name))
        .cloned()
        .collect();
    Plan { fetch, missing }
}

/// What is to be published after a listing, and the units that are not whole and stay as they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Next {
    pub files: Files,
    pub incomplete: BTreeSet<Unit>,
}

/// Puts together what is to be published. `removed` is what two listings in a row did not name.
pub fn publish(
    listing: &Listing,
    published: &Files,
    fetched: &Files,
    removed: &BTreeSet<FileName>,
) -> Next {
    let wanted = units::wanted(listing);
    let mut next = Next::default();
    let mut files = Files::new();
    for (name, identity) in &wanted {
        let entry = [published, fetched].iter().find_map(|files| {
            files
                .get(*name)
                .filter(|entry| entry.identity == **identity)
        });
        match entry {
            Some(entry) => {
                files.insert((*name).clone(), entry.clone());
            }
            None => {
                next.incomplete.insert(Unit::of(name));
            }
        }
    }
    let is_incomplete = |name: &FileName| {
        let unit = Unit::of(name);
        // A model's own files say how its versions are served, so without them nothing of it changes.
        next.incomplete.contains(&unit) || next.incomplete.contains(&unit.of_model())
    };
    files.retain(|name, _| !is_incomplete(name));
    for (name, entry) in published {
        let is_kept = is_incomplete(name) || !wanted.contains_key(name);
        if is_kept && !removed.contains(name) {
            files.insert(name.clone(), entry.clone());
        }
    }
    drop_clashes(&mut files, &wanted);
    next.files = files;
    next
}

/// A name that is a file in the listing may be a folder of what is kept, or the other way round; the listing wins.
fn drop_clashes(files: &mut Files, wanted: &BTreeMap<&FileName, &Identity>) {
    let folders: BTreeSet<String> = wanted
        .keys()
        .flat_map(|name| name.folders().map(str::to_owned))
        .collect();
    let names: BTreeSet<&str> = wanted.keys().map(|name| name.as_str()).collect();
    files.retain(|name, _| {
        let is_listed = names.contains(name.as_str());
        is_listed
            || !(folders.contains(name.as_str())
                || name.folders().any(|folder| names.contains(folder)))
    });
}

/// The index as it stands in the cache.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The address that the files are from.
    pub url: String,
    pub files: Files,
}

#[cfg(test)]
mod tests;
