//! What the names of a store's objects may be, so that they can stand in a folder and never lead out of it.

use std::fmt;

/// Longer ones cannot be files on usual file systems.
const LONGEST_PART: usize = 255;
/// The longest key that S3, GCS and Azure have.
const LONGEST_NAME: usize = 1024;
/// Deeper folders are no model's.
const MOST_PARTS: usize = 32;

/// An object's name below the repository's prefix: parts between slashes, none of which is special to a file system.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct FileName(String);

impl FileName {
    /// Checks a name; the error says why it is passed over.
    pub fn parse(name: &str) -> Result<FileName, &'static str> {
        if name.len() > LONGEST_NAME {
            return Err("the name is longer than 1024 bytes");
        }
        let mut parts = 0;
        for part in name.split('/') {
            parts += 1;
            check_part(part)?;
        }
        match parts > MOST_PARTS {
            true => Err("the name is deeper than 32 folders"),
            false => Ok(FileName(name.to_owned())),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Every folder that it stands in, outermost first.
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        self.0
            .match_indices('/')
            .map(|(position, _)| &self.0[..position])
    }
}

fn check_part(part: &str) -> Result<(), &'static str> {
    match part {
        "" => Err("a part of the name is empty"),
        "." | ".." => Err("a part of the name is '.' or '..'"),
        part if part.len() > LONGEST_PART => Err("a part of the name is longer than 255 bytes"),
        part if part.contains('\\') || part.chars().any(char::is_control) => {
            Err("the name has a backslash or a control character")
        }
        _ => Ok(()),
    }
}

impl TryFrom<String> for FileName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<FileName, &'static str> {
        FileName::parse(&name)
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> String {
        name.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_of_models_are_valid() {
        for name in [
            "iris/1/model.onnx",
            "squeeze.onnx",
            "a b/ü/model.onnx",
            "m/%2e%2e/x",
        ] {
            assert_eq!(FileName::parse(name).expect("valid").as_str(), name);
        }
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_not() {
        for name in [
            "",
            "/etc/passwd",
            "../x",
            "a/../x",
            "a//x",
            "a/",
            ".",
            "a\\b",
            "a\0b",
        ] {
            FileName::parse(name).expect_err(name);
        }
        FileName::parse(&"a".repeat(256)).expect_err("too long a part");
        FileName::parse(&"a/".repeat(600)).expect_err("too long");
        FileName::parse(&format!("{}a", "a/".repeat(40))).expect_err("too deep");
    }

    #[test]
    fn folders_are_told_from_the_outside_in() {
        let name = FileName::parse("iris/1/model.onnx").expect("valid");
        assert_eq!(name.folders().collect::<Vec<_>>(), ["iris", "iris/1"]);
    }

    proptest! {
        #[test]
        fn no_name_ever_leaves_the_folder(name in "[./\\\\a\\x00-]{0,12}|.{0,12}") {
            if let Ok(name) = FileName::parse(&name) {
                let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
                prop_assert!(Path::new(name.as_str()).components().all(is_plain));
                prop_assert_eq!(Path::new(name.as_str()).components().count(), name.parts().count());
            }
        }
    }
}
