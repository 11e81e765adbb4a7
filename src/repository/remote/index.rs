//! What the cache holds, and what a listing makes of it. Pure, so that every course of events can be tried.
//!
//! Invariant: what is published of a unit is what two listings in a row said of it, whole. A single listing may lack
//! anything, be it a file that is to go, or one without which another must not be seen.

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

/// What has to be fetched before what a listing names can be published.
pub fn to_fetch(
    listing: &Listing,
    published: &Files,
    fetched: &Files,
) -> BTreeMap<FileName, Identity> {
    let wanted = units::wanted(listing).into_iter();
    wanted
        .filter(|(name, identity)| entry(name, identity, [published, fetched]).is_none())
        .map(|(name, identity)| (name.clone(), identity.clone()))
        .collect()
}

/// The file that is as it was listed, where there is one.
fn entry<'a>(name: &FileName, identity: &Identity, files: [&'a Files; 2]) -> Option<&'a Entry> {
    let mut entries = files.into_iter().filter_map(|files| files.get(name));
    entries.find(|entry| entry.identity == *identity)
}

/// What is to be published after a listing, and the units that are not whole and stay as they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Next {
    pub files: Files,
    pub incomplete: BTreeSet<Unit>,
}

/// Puts together what is to be published: of each unit what the last two listings both say, or what there was.
pub fn publish(last_two: [&Listing; 2], published: &Files, fetched: &Files) -> Next {
    let [before, wanted] = last_two.map(units::wanted);
    let mut next = Next::default();
    let mut files = Files::new();
    for (name, identity) in &wanted {
        match entry(name, identity, [published, fetched]) {
            Some(entry) => {
                files.insert((*name).clone(), entry.clone());
            }
            None => {
                next.incomplete.insert(Unit::of(name));
            }
        }
    }
    let mut held = next.incomplete.clone();
    held.extend(differing(&before, &wanted).chain(differing(&wanted, &before)));
    let is_held = |name: &FileName| {
        let unit = Unit::of(name);
        // A model's own files say how its versions are served, so without them nothing of it changes.
        held.contains(&unit) || held.contains(&unit.of_model())
    };
    files.retain(|name, _| !is_held(name));
    let kept = published.iter().filter(|(name, _)| is_held(name));
    files.extend(kept.map(|(name, entry)| (name.clone(), entry.clone())));
    drop_clashes(&mut files, &wanted);
    next.files = files;
    next
}

/// Whether two listings say the same of what is mirrored.
pub fn agree(one: &Listing, other: &Listing) -> bool {
    units::wanted(one) == units::wanted(other)
}

/// The units of which the one names something that the other does not name so.
fn differing<'a>(
    one: &'a BTreeMap<&FileName, &Identity>,
    other: &'a BTreeMap<&FileName, &Identity>,
) -> impl Iterator<Item = Unit> + 'a {
    let files = one.iter();
    let differing = files.filter(|(name, identity)| other.get(*name) != Some(identity));
    differing.map(|(name, _)| Unit::of(name))
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
