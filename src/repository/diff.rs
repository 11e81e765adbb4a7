//! What has changed between two moments of a repository.

use std::collections::{BTreeMap, BTreeSet};

use super::{FoundModel, Snapshot, Version};

/// What has changed, model by model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub models: BTreeMap<String, Change>,
    /// Whether `repository.toml` names another default model.
    pub is_default_changed: bool,
}

/// What has happened to one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Added,
    Removed,
    Altered(Alteration),
}

/// What is different about a model that is still there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alteration {
    pub added: BTreeSet<Version>,
    pub removed: BTreeSet<Version>,
    /// Versions that are there as before, but made from other files.
    pub altered: BTreeSet<Version>,
    /// Whether what its owner wrote beside the versions is different, or whether it can be used.
    pub is_owner_changed: bool,
}

impl Changes {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty() && !self.is_default_changed
    }
}

/// Compares two moments.
pub fn diff(old: &Snapshot, new: &Snapshot) -> Changes {
    let names: BTreeSet<&String> = old.models.keys().chain(new.models.keys()).collect();
    let change = |name: &String| match (old.models.get(name), new.models.get(name)) {
        (None, Some(_)) => Some(Change::Added),
        (Some(_), None) => Some(Change::Removed),
        (Some(old), Some(new)) => alteration(old, new).map(Change::Altered),
        (None, None) => None,
    };
    let changed = names
        .into_iter()
        .filter_map(|name| Some((name.clone(), change(name)?)));
    Changes {
        models: changed.collect(),
        is_default_changed: old.default_model != new.default_model,
    }
}

fn alteration(old: &FoundModel, new: &FoundModel) -> Option<Alteration> {
    if old == new {
        return None;
    }
    let (Ok(before), Ok(after)) = (&old.files, &new.files) else {
        return Some(Alteration {
            is_owner_changed: true,
            ..Alteration::default()
        });
    };
    let only_in = |one: &BTreeMap<Version, _>, other: &BTreeMap<Version, _>| {
        let versions = one.keys().filter(|version| !other.contains_key(version));
        versions.copied().collect()
    };
    let is_altered = |version: &&Version| {
        let is_there = before.versions.contains_key(version);
        is_there
            && (before.stamps.get(version) != after.stamps.get(version)
                || before.versions.get(version) != after.versions.get(version)
                || before.golden.get(version) != after.golden.get(version))
    };
    Some(Alteration {
        added: only_in(&after.versions, &before.versions),
        removed: only_in(&before.versions, &after.versions),
        altered: after.versions.keys().filter(is_altered).copied().collect(),
        is_owner_changed: old.stamp != new.stamp
            || before.manifest != after.manifest
            || before.labels != after.labels,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use crate::repository::ModelFiles;
    use crate::repository::stamp::Stamp;

    fn files() -> impl Strategy<Value = ModelFiles> {
        btree_map(1..4_u64, 0..3_u64, 1..4).prop_map(|versions| ModelFiles {
            stamps: versions
                .iter()
                .map(|(version, stamp)| (*version, Stamp::numbered(*stamp)))
                .collect(),
            versions: versions
                .keys()
                .map(|version| (*version, PathBuf::from(version.to_string())))
                .collect(),
            ..ModelFiles::default()
        })
    }

    fn found() -> impl Strategy<Value = FoundModel> {
        let problem = "[ab]".prop_map(Err);
        let files = prop_oneof![4 => files().prop_map(Ok), 1 => problem];
        (files, 0..3_u64).prop_map(|(files, stamp)| FoundModel {
            files,
            stamp: Stamp::numbered(stamp),
        })
    }

    fn snapshot() -> impl Strategy<Value = Snapshot> {
        let default = proptest::option::of("[ab]");
        (btree_map("[abc]", found(), 0..4), default).prop_map(|(models, default_model)| Snapshot {
            models,
            default_model,
            ..Snapshot::default()
        })
    }

    /// The versions of `old` as the changes say that they are now; `None` where the new files must be asked.
    fn applied(old: &Snapshot, new: &Snapshot, changes: &Changes) -> BTreeMap<String, FoundModel> {
        let mut models = old.models.clone();
        for (name, change) in &changes.models {
            match change {
                Change::Removed => drop(models.remove(name)),
                Change::Added => drop(models.insert(name.clone(), new.models[name].clone())),
                Change::Altered(alteration) => alter(
                    models.get_mut(name).expect("it was there"),
                    &new.models[name],
                    alteration,
                ),
            }
        }
        models
    }

    /// Takes from `new` exactly what the alteration names.
    fn alter(model: &mut FoundModel, new: &FoundModel, alteration: &Alteration) {
        let (Ok(old), Ok(now)) = (&mut model.files, &new.files) else {
            assert!(alteration.is_owner_changed);
            *model = new.clone();
            return;
        };
        for version in &alteration.removed {
            old.versions.remove(version);
            old.stamps.remove(version);
        }
        for version in alteration.added.union(&alteration.altered) {
            old.versions.insert(*version, now.versions[version].clone());
            old.stamps.insert(*version, now.stamps[version]);
        }
        if alteration.is_owner_changed {
            model.stamp = new.stamp;
        }
    }

    proptest! {
        #[test]
        fn nothing_has_changed_between_a_moment_and_itself(snapshot in snapshot()) {
            prop_assert!(diff(&snapshot, &snapshot).is_empty());
        }

        #[test]
        fn the_old_moment_and_the_changes_make_the_new_one(old in snapshot(), new in snapshot()) {
            let changes = diff(&old, &new);
            prop_assert_eq!(applied(&old, &new, &changes), new.models);
            prop_assert_eq!(changes.is_default_changed, old.default_model != new.default_model);
        }

        #[test]
        fn only_what_differs_is_named(old in snapshot(), new in snapshot()) {
            for (name, change) in diff(&old, &new).models {
                prop_assert_ne!(old.models.get(&name), new.models.get(&name));
                if let Change::Altered(alteration) = change {
                    prop_assert_ne!(alteration, Alteration::default());
                }
            }
        }
    }
}
