//! Which versions of a model to load, in which order, and how many of them to serve.

use std::collections::{BTreeMap, BTreeSet};

use super::Version;
use super::manifest::{ModelManifest, VersionPolicy};

/// The versions to try, and how many of them are to serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are tried.
    pub candidates: Vec<Version>,
    /// Loading stops when this many serve.
    pub wanted: usize,
    /// Versions that were asked for and are not there.
    pub missing: Vec<Version>,
    /// Versions with a label, which are served too.
    pub labelled: BTreeSet<Version>,
    /// Labels of versions that are not there.
    pub dangling: BTreeMap<String, Version>,
}

/// The plan for a model with these versions. A newer version that fails makes place for the next older one only
/// under [`VersionPolicy::Latest`], where no version was asked for by number.
///
/// What has a label is served whatever the policy says: a label that nothing answers to would be of no use.
pub fn plan(manifest: &ModelManifest, available: impl IntoIterator<Item = Version>) -> Plan {
    let mut newest_first: Vec<Version> = available.into_iter().collect();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    let labels = manifest.version_labels.iter();
    let (there, dangling): (Vec<_>, Vec<_>) =
        labels.partition(|(_, version)| newest_first.contains(version));
    let (labelled, dangling) = (
        there.into_iter().map(|(_, version)| *version).collect(),
        dangling
            .into_iter()
            .map(|(label, version)| (label.clone(), *version))
            .collect(),
    );
    let (wanted, missing) = match &manifest.versions {
        VersionPolicy::Latest(count) => (count.get(), Vec::new()),
        VersionPolicy::All => (newest_first.len(), Vec::new()),
        VersionPolicy::Pinned(pinned) => {
            let pinned_and_missing = pinned
                .iter()
                .copied()
                .filter(|version| !newest_first.contains(version))
                .collect();
            newest_first.retain(|version| pinned.contains(version));
            (newest_first.len(), pinned_and_missing)
        }
    };
    Plan {
        candidates: newest_first,
        wanted,
        missing,
        labelled,
        dangling,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan_for(versions: VersionPolicy, available: &[Version]) -> Plan {
        let manifest = ModelManifest {
            versions,
            version_labels: BTreeMap::from([("gone".to_owned(), 9), ("old".to_owned(), 1)]),
            ..ModelManifest::default()
        };
        let Plan {
            labelled, dangling, ..
        } = plan(&manifest, available.iter().copied());
        assert_eq!(labelled, BTreeSet::from([1]), "whatever the policy says");
        assert_eq!(dangling, BTreeMap::from([("gone".to_owned(), 9)]));
        let manifest = ModelManifest {
            version_labels: BTreeMap::new(),
            ..manifest
        };
        plan(&manifest, available.iter().copied())
    }

    #[test]
    fn latest_tries_every_version_from_the_newest_down() {
        let plan = plan_for(VersionPolicy::default(), &[1, 10, 2]);
        assert_eq!(
            plan,
            Plan {
                candidates: vec![10, 2, 1],
                wanted: 1,
                missing: vec![],
                ..Plan::default()
            }
        );
    }

    #[test]
    fn all_wants_every_version() {
        let plan = plan_for(VersionPolicy::All, &[1, 2]);
        assert_eq!(
            plan,
            Plan {
                candidates: vec![2, 1],
                wanted: 2,
                missing: vec![],
                ..Plan::default()
            }
        );
    }

    #[test]
    fn pinned_tells_what_is_missing() {
        let plan = plan_for(VersionPolicy::Pinned(vec![2, 7]), &[1, 2]);
        assert_eq!(
            plan,
            Plan {
                candidates: vec![2],
                wanted: 1,
                missing: vec![7],
                ..Plan::default()
            }
        );
    }
}
