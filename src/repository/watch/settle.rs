//! Holds back what is still being written: a change counts once it has stayed as it is for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use crate::repository::stamp::Stamp;
use crate::repository::{FoundModel, ModelFiles, Snapshot, Version};

/// Something that changes by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    /// `repository.toml`.
    Repository,
    /// What a model's owner wrote beside its versions.
    Owner(String),
    /// A version's files.
    Version(String, Version),
}

/// The moment of a look, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub at: Instant,
    /// By which files were written.
    pub wall: SystemTime,
}

/// What has been seen and does not count yet.
#[derive(Debug)]
pub struct Settling {
    /// How long a change must stay as it is.
    time: Duration,
    /// What differs from what counts. What has settled stays here for as long as it cannot count, such as settings
    /// whose model has no version yet that has settled.
    seen: BTreeMap<Unit, Sight>,
    is_first: bool,
}

/// How something was seen.
#[derive(Debug)]
struct Sight {
    /// `None` if it was not there.
    stamp: Option<Stamp>,
    since: Instant,
    is_settled: bool,
}

impl Settling {
    /// Nothing has been seen.
    pub fn new(time: Duration) -> Settling {
        Settling {
            time,
            seen: BTreeMap::new(),
            is_first: true,
        }
    }

    /// When something may have settled, if anything has to.
    pub fn due(&self) -> Option<Instant> {
        let unsettled = self.seen.values().filter(|sight| !sight.is_settled);
        let since = unsettled.map(|sight| sight.since).min();
        since.map(|since| since + self.time)
    }

    /// Models of which nothing counts yet.
    pub fn withheld<'a>(&self, now: &'a Snapshot, counts: &Snapshot) -> Vec<&'a String> {
        let names = now.models.keys();
        names
            .filter(|name| !counts.models.contains_key(*name))
            .collect()
    }

    /// Forgets what was seen, where nobody could look meanwhile.
    pub fn interrupted(&mut self) {
        self.seen.clear();
    }

    /// What counts from now on: `counts`, which counted so far, with everything of `now` that has settled.
    ///
    /// At the first look, what was last written long enough ago counts at once, so that a start need not wait.
    pub fn look(&mut self, counts: &Snapshot, now: &Snapshot, moment: Moment) -> Snapshot {
        let (old, new) = (units(counts), units(now));
        let all: BTreeSet<&Unit> = old.keys().chain(new.keys()).collect();
        let mut settled = BTreeSet::new();
        for unit in all {
            let stamp = new.get(unit).copied();
            if stamp == old.get(unit).copied() {
                self.seen.remove(unit);
                settled.insert(unit.clone());
            } else if self.has_settled(unit, stamp, moment) {
                settled.insert(unit.clone());
            }
        }
        self.seen
            .retain(|unit, _| old.contains_key(unit) || new.contains_key(unit));
        self.is_first = false;
        combine(counts, now, &settled)
    }

    fn is_old(&self, stamp: Option<Stamp>, moment: Moment) -> bool {
        let is_old = |written: SystemTime| {
            // What seems to be written in the future is not known to be old.
            let age = moment.wall.duration_since(written);
            age.is_ok_and(|age| age >= self.time)
        };
        self.is_first && stamp.is_some_and(|stamp| stamp.newest().is_none_or(is_old))
    }

    fn has_settled(&mut self, unit: &Unit, stamp: Option<Stamp>, moment: Moment) -> bool {
        let is_old = self.is_old(stamp, moment);
        let at = moment.at;
        let unseen = Sight {
            stamp,
            since: at,
            is_settled: is_old,
        };
        let sight = self.seen.entry(unit.clone()).or_insert(unseen);
        if sight.stamp != stamp {
            *sight = Sight {
                stamp,
                since: at,
                is_settled: is_old,
            };
        }
        sight.is_settled |= at.duration_since(sight.since) >= self.time;
        sight.is_settled
    }
}

fn units(snapshot: &Snapshot) -> BTreeMap<Unit, Stamp> {
    let mut units = BTreeMap::from([(Unit::Repository, snapshot.stamp)]);
    for (name, found) in &snapshot.models {
        units.insert(Unit::Owner(name.clone()), found.stamp);
        let stamps = found.files.iter().flat_map(|files| &files.stamps);
        units
            .extend(stamps.map(|(version, stamp)| (Unit::Version(name.clone(), *version), *stamp)));
    }
    units
}

fn combine(counts: &Snapshot, now: &Snapshot, settled: &BTreeSet<Unit>) -> Snapshot {
    let names: BTreeSet<&String> = counts.models.keys().chain(now.models.keys()).collect();
    let models = names.into_iter().filter_map(|name| {
        let one = Model { name, settled };
        let found = one.combine(counts.models.get(name), now.models.get(name))?;
        Some((name.clone(), found))
    });
    let repository = match settled.contains(&Unit::Repository) {
        true => now,
        false => counts,
    };
    Snapshot {
        models: models.collect(),
        default_model: repository.default_model.clone(),
        stamp: repository.stamp,
        passed_over: now.passed_over.clone(),
        folders: now.folders.clone(),
        root: now.root,
    }
}

/// One model and what has settled.
struct Model<'a> {
    name: &'a str,
    settled: &'a BTreeSet<Unit>,
}

impl Model<'_> {
    fn combine(&self, old: Option<&FoundModel>, new: Option<&FoundModel>) -> Option<FoundModel> {
        let is_settled = self.settled.contains(&Unit::Owner(self.name.to_owned()));
        let (owner, other) = match is_settled {
            true => (new?, old),
            false => (old?, new),
        };
        let Ok(files) = &owner.files else {
            return Some(owner.clone());
        };
        let before = old;
        let [old, new] = [old, new].map(|found| found.and_then(|found| found.files.as_ref().ok()));
        let mut combined = ModelFiles {
            manifest: files.manifest.clone(),
            labels: files.labels.clone(),
            is_bare: files.is_bare,
            ..ModelFiles::default()
        };
        let all = [
            Some(files),
            other.and_then(|other| other.files.as_ref().ok()),
        ];
        let all: BTreeSet<Version> = all
            .into_iter()
            .flatten()
            .flat_map(|files| files.versions.keys().copied())
            .collect();
        for version in all {
            let unit = Unit::Version(self.name.to_owned(), version);
            let from = match self.settled.contains(&unit) {
                true => new,
                false => old,
            };
            if let Some(from) = from {
                take(&mut combined, from, version);
            }
        }
        if combined.versions.is_empty() {
            // What was wrong with it stays known until the first of its versions has settled.
            return before.cloned();
        }
        Some(FoundModel {
            files: Ok(combined),
            stamp: owner.stamp,
        })
    }
}

fn take(into: &mut ModelFiles, from: &ModelFiles, version: Version) {
    if let Some(file) = from.versions.get(&version) {
        into.versions.insert(version, file.clone());
    }
    if let Some(stamp) = from.stamps.get(&version) {
        into.stamps.insert(version, *stamp);
    }
    if let Some(golden) = from.golden.get(&version) {
        into.golden.insert(version, golden.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const TIME: Duration = Duration::from_secs(1);

    /// A repository in which `m` has these versions with these stamps, under settings with this stamp.
    fn snapshot(owner: u64, versions: &[(Version, u64)]) -> Snapshot {
        let stamps = versions.iter();
        let stamps = stamps.map(|(version, stamp)| (*version, Stamp::numbered(*stamp)));
        let files = ModelFiles {
            versions: versions
                .iter()
                .map(|(version, _)| (*version, PathBuf::from(version.to_string())))
                .collect(),
            stamps: stamps.collect(),
            ..ModelFiles::default()
        };
        let found = FoundModel {
            files: Ok(files),
            stamp: Stamp::numbered(owner),
        };
        Snapshot {
            models: BTreeMap::from([("m".to_owned(), found)]),
            ..Snapshot::default()
        }
    }

    /// Looks at one moment after another, in tenths of a second, and gives what counts after each.
    fn looks(looks: &[(u64, Snapshot)]) -> Vec<Snapshot> {
        let start = Instant::now();
        let mut settling = Settling {
            is_first: false,
            ..Settling::new(TIME)
        };
        let mut counts = Snapshot::default();
        let look = |(tenths, now): &(u64, Snapshot)| {
            let moment = Moment {
                at: start + Duration::from_millis(tenths * 100),
                wall: SystemTime::UNIX_EPOCH,
            };
            counts = settling.look(&counts, now, moment);
            counts.clone()
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn what_changes_counts_once_it_has_stayed_as_it_is() {
        let (half, whole) = (snapshot(0, &[(1, 1)]), snapshot(0, &[(1, 2)]));
        let counts = looks(&[
            (0, half.clone()),
            (9, half),
            (12, whole.clone()),
            (21, whole.clone()),
            (22, whole.clone()),
        ]);
        let none = Snapshot::default();
        assert_eq!(
            counts,
            [none.clone(), none.clone(), none.clone(), none, whole]
        );
    }

    #[test]
    fn settings_wait_for_the_first_version_and_versions_for_settings() {
        let old = snapshot(1, &[(1, 1)]);
        let mut all = vec![(0, old.clone()), (10, old.clone())];
        // New settings come a while before a new version.
        all.push((20, snapshot(2, &[(1, 1)])));
        all.push((25, snapshot(2, &[(1, 1), (2, 1)])));
        all.push((30, snapshot(2, &[(1, 1), (2, 1)])));
        all.push((35, snapshot(2, &[(1, 1), (2, 1)])));
        let counts = looks(&all);
        let expected = [
            old.clone(),
            old.clone(),
            old,
            snapshot(2, &[(1, 1)]),
            snapshot(2, &[(1, 1), (2, 1)]),
        ];
        assert_eq!(counts[1..], expected);
    }

    #[test]
    fn what_never_stays_never_counts_and_holds_up_nothing_else() {
        let looked = (0..40).map(|tenths| (tenths, snapshot(0, &[(1, 1), (2, tenths)])));
        let looked: Vec<_> = looked.collect();
        let counts = looks(&looked);
        assert_eq!(counts[39], snapshot(0, &[(1, 1)]));
    }

    #[test]
    fn what_goes_and_comes_again_was_never_gone() {
        let here = snapshot(0, &[(1, 1)]);
        let counts = looks(&[
            (0, here.clone()),
            (10, here.clone()),
            (11, Snapshot::default()),
            (15, here.clone()),
            (30, Snapshot::default()),
            (39, Snapshot::default()),
            (40, Snapshot::default()),
        ]);
        let kept = vec![here; 5];
        assert_eq!(counts[1..6], kept);
        assert_eq!(counts[6], Snapshot::default());
    }
}
