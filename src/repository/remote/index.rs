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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> FileName {
        FileName::parse(text).expect("valid")
    }

    /// The state of an object is a number here, and so are its bytes.
    fn identity(state: u8) -> Identity {
        Identity {
            size: u64::from(state),
            etag: Some(format!("\"{state}\"")),
            modified_ms: 0,
        }
    }

    fn listing(files: &[(&str, u8)]) -> Listing {
        let files = files
            .iter()
            .map(|(file, state)| (name(file), identity(*state)));
        Listing {
            files: files.collect(),
            passed_over: Vec::new(),
        }
    }

    fn files(files: &[(&str, u8)]) -> Files {
        let entry = |state: u8| Entry {
            identity: identity(state),
            sha256: state.to_string(),
        };
        let files = files
            .iter()
            .map(|(file, state)| (name(file), entry(*state)));
        files.collect()
    }

    fn names(texts: &[&str]) -> BTreeSet<FileName> {
        texts.iter().map(|text| name(text)).collect()
    }

    #[test]
    fn only_what_is_new_or_changed_is_fetched() {
        let listing = listing(&[
            ("m/1/model.onnx", 1),
            ("m/2/model.onnx", 9),
            ("m/3/model.onnx", 3),
        ]);
        let published = files(&[("m/1/model.onnx", 1), ("m/2/model.onnx", 2)]);
        let plan = plan(&listing, &published, &Files::new());
        let fetch: Vec<_> = plan.fetch.keys().map(FileName::as_str).collect();
        assert_eq!(fetch, ["m/2/model.onnx", "m/3/model.onnx"]);
        assert!(plan.missing.is_empty());
    }

    #[test]
    fn a_version_that_is_not_whole_stays_as_it_was_and_the_others_go_on() {
        let listing = listing(&[("m/1/a", 9), ("m/1/model.onnx", 9), ("m/2/model.onnx", 2)]);
        let published = files(&[("m/1/a", 1), ("m/1/model.onnx", 1)]);
        let fetched = files(&[("m/1/model.onnx", 9), ("m/2/model.onnx", 2)]);
        let next = publish(&listing, &published, &fetched, &BTreeSet::new());
        let expected = files(&[("m/1/a", 1), ("m/1/model.onnx", 1), ("m/2/model.onnx", 2)]);
        assert_eq!(next.files, expected);
        assert_eq!(
            next.incomplete,
            BTreeSet::from([Unit::Version("m".into(), "1".into())])
        );
    }

    #[test]
    fn without_its_own_files_nothing_of_a_model_changes() {
        let listing = listing(&[("m/model.toml", 9), ("m/2/model.onnx", 2)]);
        let fetched = files(&[("m/2/model.onnx", 2)]);
        let next = publish(&listing, &Files::new(), &fetched, &BTreeSet::new());
        assert!(next.files.is_empty());
    }

    #[test]
    fn what_the_listing_does_not_name_stays_until_it_counts_as_removed() {
        let published = files(&[("m/1/model.onnx", 1), ("m/2/model.onnx", 2)]);
        let listing = listing(&[("m/2/model.onnx", 2)]);
        let missing = plan(&listing, &published, &Files::new()).missing;
        assert_eq!(missing, names(&["m/1/model.onnx"]));
        let kept = publish(&listing, &published, &Files::new(), &BTreeSet::new());
        assert_eq!(kept.files, published);
        let gone = publish(&listing, &published, &Files::new(), &missing);
        assert_eq!(gone.files, files(&[("m/2/model.onnx", 2)]));
    }

    #[test]
    fn a_file_that_became_a_folder_makes_way() {
        let published = files(&[("m/1", 1), ("m/model.onnx", 1)]);
        let listing = listing(&[("m/1/model.onnx", 2), ("m/model.onnx", 1)]);
        let fetched = files(&[("m/1/model.onnx", 2)]);
        let next = publish(&listing, &published, &fetched, &BTreeSet::new());
        assert_eq!(
            next.files,
            files(&[("m/1/model.onnx", 2), ("m/model.onnx", 1)])
        );
    }

    #[test]
    fn the_same_etag_is_known_in_each_way_to_write_it() {
        let written = |etag: Option<&str>, modified_ms| Identity {
            size: 1,
            etag: etag.map(str::to_owned),
            modified_ms,
        };
        let listed = written(Some("\"a\""), 1500);
        assert!(listed.is_same_object(&written(Some("a"), 0)));
        assert!(listed.is_same_object(&written(Some("W/\"a\""), 0)));
        assert!(!listed.is_same_object(&written(Some("\"b\""), 1500)));
        assert!(listed.is_same_object(&written(None, 1000)));
        assert!(!listed.is_same_object(&written(None, 2000)));
        assert_eq!(written(Some("W/\"a\""), 0).strong_etag(), None);
        assert_eq!(
            written(Some("a"), 0).strong_etag().as_deref(),
            Some("\"a\"")
        );
    }

    const NAMES: [&str; 8] = [
        "m/1/model.onnx",
        "m/1/model.onnx.data",
        "m/2/model.onnx",
        "m/model.toml",
        "n/model.onnx",
        "n/labels.txt",
        "repository.toml",
        "train/x",
    ];

    fn some_files() -> impl Strategy<Value = Vec<(&'static str, u8)>> {
        proptest::collection::vec(proptest::option::of(1u8..4), NAMES.len()).prop_map(|states| {
            let named = NAMES.iter().zip(states);
            named
                .filter_map(|(name, state)| Some((*name, state?)))
                .collect()
        })
    }

    proptest! {
        /// Whatever was there and whatever was fetched: of each unit all is as listed, or all is as it was.
        #[test]
        fn no_unit_is_ever_a_mixture(listed in some_files(), old in some_files(), new in some_files(), removes in any::<bool>()) {
            let (listing, published, fetched) = (listing(&listed), files(&old), files(&new));
            let plan = plan(&listing, &published, &fetched);
            let removed = if removes { plan.missing } else { BTreeSet::new() };
            let next = publish(&listing, &published, &fetched, &removed);
            let units: BTreeSet<Unit> = NAMES.iter().map(|text| Unit::of(&name(text))).collect();
            let wanted = units::wanted(&listing);
            for unit in units {
                let of_unit = |name: &&FileName| Unit::of(name) == unit;
                let is_listed = wanted.iter().filter(|(name, _)| of_unit(name)).all(|(name, identity)| {
                    next.files.get(*name).is_some_and(|entry| entry.identity == **identity)
                });
                let is_old = published.iter().filter(|(name, _)| of_unit(name) && !removed.contains(*name))
                    .all(|(name, entry)| next.files.get(name) == Some(entry));
                prop_assert!(is_listed || is_old, "{unit}: {next:?}");
                if !is_listed {
                    let extra = next.files.keys().filter(of_unit).all(|name| published.contains_key(name));
                    prop_assert!(extra, "{unit}: {next:?}");
                }
            }
            for (name, entry) in &next.files {
                let is_known = published.get(name) == Some(entry) || fetched.get(name) == Some(entry);
                prop_assert!(is_known, "{name} comes from nowhere");
            }
        }

        /// Once everything planned is fetched, what is published is what is listed.
        #[test]
        fn what_is_planned_suffices(listed in some_files(), old in some_files()) {
            let (listing, published) = (listing(&listed), files(&old));
            let plan = plan(&listing, &published, &Files::new());
            let fetched: Files = plan.fetch.iter().map(|(name, identity)| {
                let sha256 = identity.size.to_string();
                (name.clone(), Entry { identity: identity.clone(), sha256 })
            }).collect();
            let next = publish(&listing, &published, &fetched, &plan.missing);
            prop_assert!(next.incomplete.is_empty());
            let now: BTreeMap<_, _> = next.files.iter().map(|(name, entry)| (name, &entry.identity)).collect();
            prop_assert_eq!(now, units::wanted(&listing));
        }
    }
}
