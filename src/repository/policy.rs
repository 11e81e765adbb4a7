//! Which versions of a model to load, in which order, and how many of them to serve.

use super::Version;
use super::manifest::VersionPolicy;

/// The versions to try, and how many of them are to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are tried.
    pub candidates: Vec<Version>,
    /// Loading stops when this many serve.
    pub wanted: usize,
    /// Versions that were asked for and are not there.
    pub missing: Vec<Version>,
}

/// The plan for a model with these versions. A newer version that fails makes place for the next older one only
/// under [`VersionPolicy::Latest`], where no version was asked for by number.
pub fn plan(policy: &VersionPolicy, available: impl IntoIterator<Item = Version>) -> Plan {
    let mut newest_first: Vec<Version> = available.into_iter().collect();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    match policy {
        VersionPolicy::Latest(count) => Plan {
            candidates: newest_first,
            wanted: count.get(),
            missing: Vec::new(),
        },
        VersionPolicy::All => Plan {
            wanted: newest_first.len(),
            candidates: newest_first,
            missing: Vec::new(),
        },
        VersionPolicy::Pinned(pinned) => {
            let missing = pinned
                .iter()
                .copied()
                .filter(|version| !newest_first.contains(version))
                .collect();
            newest_first.retain(|version| pinned.contains(version));
            Plan {
                wanted: newest_first.len(),
                candidates: newest_first,
                missing,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_tries_every_version_from_the_newest_down() {
        let plan = plan(&VersionPolicy::default(), [1, 10, 2]);
        assert_eq!(
            plan,
            Plan {
                candidates: vec![10, 2, 1],
                wanted: 1,
                missing: vec![]
            }
        );
    }

    #[test]
    fn all_wants_every_version() {
        let plan = plan(&VersionPolicy::All, [1, 2]);
        assert_eq!(
            plan,
            Plan {
                candidates: vec![2, 1],
                wanted: 2,
                missing: vec![]
            }
        );
    }

    #[test]
    fn pinned_tells_what_is_missing() {
        let plan = plan(&VersionPolicy::Pinned(vec![2, 7]), [1, 2]);
        assert_eq!(
            plan,
            Plan {
                candidates: vec![2],
                wanted: 1,
                missing: vec![7]
            }
        );
    }
}
