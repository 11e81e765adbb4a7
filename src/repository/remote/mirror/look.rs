//! How a look at a store ended that read a whole listing.

use std::collections::BTreeMap;

use crate::repository::remote::names::FileName;
use crate::repository::remote::units::Unit;

/// What a look has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Whether the folder has changed.
    pub has_changed: bool,
    /// Models of which something could not be mirrored, with the reason.
    pub problems: BTreeMap<String, String>,
}

/// How a look ended that read a whole listing.
pub(super) struct Look {
    pub(super) has_changed: bool,
    pub(super) incomplete: BTreeMap<Unit, String>,
    pub(super) failed: BTreeMap<FileName, String>,
}

impl Look {
    pub(super) fn refreshed(self) -> Refreshed {
        let mut problems = BTreeMap::new();
        for (unit, reason) in self.incomplete {
            if let Some(model) = unit.model() {
                problems.insert(model.to_owned(), reason);
            }
        }
        for (name, reason) in self.failed {
            let bare = name.as_str().strip_suffix(".onnx");
            if let Some(model) = bare.filter(|model| !model.contains('/')) {
                problems.insert(model.to_owned(), reason);
            }
        }
        Refreshed {
            has_changed: self.has_changed,
            problems,
        }
    }
}
