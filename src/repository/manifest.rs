//! The files that an owner writes beside the models: `model.toml`, `repository.toml` and label files.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::Version;
use super::layout::is_name;
use super::scheduling::{QueuePolicy, Scheduling, Written as WrittenScheduling};
use crate::config::validate::canonical_version;
use crate::config::{Agreement, Aim, EngineChoice, EngineRules};
use crate::tensor::expectation::Tolerance;

/// More labels than that are a mistake.
const MOST_LABELS: usize = 100;

/// `model.toml`, beside a model's versions. Every key is optional; unknown keys are an error of the model.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelManifest {
    /// Which of the served versions a request means that names none; else the newest.
    pub default_version: Option<VersionName>,
    /// Which versions to serve; else the newest that loads.
    #[serde(default)]
    pub versions: VersionPolicy,
    /// Names for versions, which are served beside those that `versions` picks.
    #[serde(default, deserialize_with = "version_labels")]
    pub version_labels: BTreeMap<String, Version>,
    /// Class names for an output.
    pub labels: Option<Labels>,
    /// Rows that may wait for this model; else `inference.queue_rows`.
    pub queue_rows: Option<NonZeroUsize>,
    /// Which engine runs it; else `inference.engine`.
    pub engine: Option<EngineChoice>,
    /// What follows when engines differ; else `inference.engine_agreement`.
    pub engine_agreement: Option<Agreement>,
    /// What it is measured for; else `inference.aim`.
    pub aim: Option<Aim>,
    /// How far outputs may lie from those of golden requests which do not say so themselves.
    pub golden_tolerance: Option<Tolerance>,
    /// The most rows of one run.
    pub max_batch_rows: Option<NonZeroUsize>,
    /// Sizes that runs are best taken at; without them, and without a delay, what was measured decides.
    #[serde(default)]
    pub preferred_batch_rows: Vec<NonZeroUsize>,
    /// How long a request may wait for others to fill its run.
    pub max_queue_delay_us: Option<u64>,
    /// What requests should take at most; else `inference.latency_target_ms`.
    pub latency_target_ms: Option<u64>,
    /// Workers, and the threads of each; without them what was measured decides.
    pub instances: Option<NonZeroUsize>,
    pub threads_per_instance: Option<NonZeroUsize>,
    /// How many levels of priority there are; 1 goes first.
    #[serde(default)]
    pub priority_levels: usize,
    /// The level of requests that name none.
    pub default_priority_level: Option<usize>,
    /// What becomes of requests that wait for long.
    #[serde(default)]
    pub queue_policy: QueuePolicy,
    /// The same for single levels, by their numbers.
    #[serde(default)]
    pub priority_queue_policy: BTreeMap<String, QueuePolicy>,
}

impl ModelManifest {
    /// Reads a manifest and checks its keys against each other.
    pub fn parse(text: &str) -> Result<ModelManifest, String> {
        let manifest: ModelManifest = parse(text)?;
        manifest.written().checked()?;
        manifest.check_default()?;
        Ok(manifest)
    }

    /// How requests queue and share runs, as far as the owner decides it.
    pub fn scheduling(&self) -> Scheduling {
        // Whatever was read has been checked.
        self.written().checked().unwrap_or_default()
    }

    fn written(&self) -> WrittenScheduling<'_> {
        WrittenScheduling {
            max_batch_rows: self.max_batch_rows,
            preferred_batch_rows: &self.preferred_batch_rows,
            max_queue_delay_us: self.max_queue_delay_us,
            latency_target_ms: self.latency_target_ms,
            instances: self.instances,
            threads_per_instance: self.threads_per_instance,
            priority_levels: self.priority_levels,
            default_priority_level: self.default_priority_level,
            queue_policy: self.queue_policy,
            priority_queue_policy: Some(&self.priority_queue_policy),
        }
    }

    /// The version that `name` means, unless it is a label that is not given here.
    pub fn version(&self, name: &VersionName) -> Option<Version> {
        match name {
            VersionName::Number(version) => Some(*version),
            VersionName::Label(label) => self.version_labels.get(label).copied(),
        }
    }

    /// The default version's number; [`ModelManifest::parse`] has checked that a label is given.
    pub fn default_number(&self) -> Option<Version> {
        self.version(self.default_version.as_ref()?)
    }

    /// The same without what says which versions are served and what they are called: a version that is served need
    /// not be loaded anew when only these change.
    pub fn without_choices(&self) -> ModelManifest {
        ModelManifest {
            default_version: None,
            versions: VersionPolicy::default(),
            version_labels: BTreeMap::new(),
            ..self.clone()
        }
    }

    fn check_default(&self) -> Result<(), String> {
        if let Some(VersionName::Label(label)) = &self.default_version
            && !self.version_labels.contains_key(label)
        {
            let labels = match self.version_labels.is_empty() {
                true => "there are no version_labels".to_owned(),
                false => format!(
                    "the version_labels are {}",
                    quoted(self.version_labels.keys())
                ),
            };
            return Err(format!(
                "default_version: expected a version such as \"2\" or a label, got \"{label}\"; {labels}"
            ));
        }
        Ok(())
    }

    /// How the model comes by its engine, where the server's own rules are `otherwise`.
    pub fn engine_rules(&self, otherwise: &EngineRules) -> EngineRules {
        EngineRules {
            engine: self.engine.as_ref().unwrap_or(&otherwise.engine).clone(),
            agreement: self.engine_agreement.unwrap_or(otherwise.agreement),
            aim: self.aim.unwrap_or(otherwise.aim),
        }
    }
}

/// A version as people write it: by its number, or by a label that `version_labels` gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VersionName {
    Number(Version),
    Label(String),
}

impl VersionName {
    /// `2` or `v2` is a number; anything else that can stand in a path is a label.
    pub fn parse(text: &str) -> Option<VersionName> {
        if let Some(number) = version_number(text) {
            return Some(VersionName::Number(number));
        }
        is_label(text).then(|| VersionName::Label(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for VersionName {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let text = Written::deserialize(value)?.text();
        VersionName::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "expected a version such as \"2\" or a label, got \"{text}\""
            ))
        })
    }
}

/// Names as a message lists them.
pub fn quoted<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.map(|name| format!("'{name}'")).collect();
    names.join(", ")
}

/// Which of a model's versions are served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionPolicy {
    /// The newest so many that load.
    Latest(std::num::NonZeroUsize),
    /// Every one.
    All,
    /// Exactly these.
    #[serde(deserialize_with = "versions")]
    Pinned(Vec<Version>),
}

impl Default for VersionPolicy {
    fn default() -> Self {
        VersionPolicy::Latest(std::num::NonZeroUsize::MIN)
    }
}

/// Names an output whose integers are classes, and the file with their names, one a line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    pub output: String,
    pub file: String,
}

/// `repository.toml`, beside the models.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryManifest {
    /// The model that `/predict` means.
    pub default: Option<String>,
}

/// Reads a manifest; the error is one line that names the key.
pub fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| error.message().replace('\n', " "))
}

/// The names in a label file, one a line.
pub fn label_lines(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// The number of a version written as `2` or `v2`.
pub fn version_number(text: &str) -> Option<Version> {
    canonical_version(text)?.parse().ok()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(Version),
    Text(String),
}

impl Written {
    fn text(self) -> String {
        match self {
            Written::Number(number) => number.to_string(),
            Written::Text(text) => text,
        }
    }

    fn version<E: serde::de::Error>(self) -> Result<Version, E> {
        let text = self.text();
        version_number(&text)
            .ok_or_else(|| E::custom(format!("expected a version such as \"2\", got \"{text}\"")))
    }
}

/// Whether this may be a version's label: letters, digits, `_`, `.` and `-`, and nothing that looks like a version.
pub fn is_label(text: &str) -> bool {
    let digits = text.strip_prefix('v').unwrap_or(text);
    let looks_like_version = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_name(text) && !looks_like_version
}

fn version_labels<'de, D: Deserializer<'de>>(
    value: D,
) -> Result<BTreeMap<String, Version>, D::Error> {
    let written = BTreeMap::<String, Written>::deserialize(value)?;
    let labels = written.into_iter().map(|(label, version)| {
        if !is_label(&label) {
            return Err(D::Error::custom(format!(
                "version_labels: expected a label of letters, digits, '_', '.' and '-' that begins with no '.' and looks like no version, got \"{label}\""
            )));
        }
        Ok((label, version.version()?))
    });
    let labels: BTreeMap<_, _> = labels.collect::<Result<_, _>>()?;
    match labels.len() > MOST_LABELS {
        true => Err(D::Error::custom(format!(
            "version_labels: expected at most {MOST_LABELS}, got {}",
            labels.len()
        ))),
        false => Ok(labels),
    }
}

fn versions<'de, D: Deserializer<'de>>(value: D) -> Result<Vec<Version>, D::Error> {
    let written = Vec::<Written>::deserialize(value)?;
    if written.is_empty() {
        return Err(D::Error::custom("pinned needs at least one version"));
    }
    written.into_iter().map(Written::version).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(text: &str) -> Result<ModelManifest, String> {
        ModelManifest::parse(text)
    }

    #[test]
    fn policies_are_read_as_they_are_documented() {
        assert_eq!(
            model("").expect("empty is valid").versions,
            VersionPolicy::default()
        );
        assert_eq!(
            model("versions = \"all\"").expect("valid").versions,
            VersionPolicy::All
        );
        let latest = model("versions = { latest = 2 }").expect("valid").versions;
        assert!(matches!(latest, VersionPolicy::Latest(count) if count.get() == 2));
        let pinned = model("versions = { pinned = [\"v2\", 3] }")
            .expect("valid")
            .versions;
        assert_eq!(pinned, VersionPolicy::Pinned(vec![2, 3]));
    }

    #[test]
    fn labels_name_versions_and_may_be_the_default() {
        let manifest =
            model("version_labels = { stable = \"v1\", canary = 2 }\ndefault_version = \"stable\"");
        let manifest = manifest.expect("valid");
        assert_eq!(manifest.version_labels["canary"], 2);
        assert_eq!(manifest.default_number(), Some(1));
        assert_eq!(manifest.without_choices(), ModelManifest::default());
        let unknown =
            model("version_labels = { a = 1, b = 2 }\ndefault_version = \"c\"").expect_err("no c");
        assert!(unknown.contains("'a', 'b'"), "{unknown}");
    }

    #[test]
    fn mistakes_name_the_key() {
        assert!(
            model("max_batch = 3")
                .expect_err("unknown")
                .contains("max_batch")
        );
        assert!(
            model("default_version = \"newest\"")
                .expect_err("no number")
                .contains("newest")
        );
        for label in ["v2", "2", "v", "", ".x", "a/b", "ž"] {
            let told = model(&format!("version_labels = {{ \"{label}\" = 1 }}"));
            assert!(told.expect_err(label).contains("expected a label"));
        }
        assert!(
            model("versions = { pinned = [] }")
                .expect_err("empty")
                .contains("at least one")
        );
        assert!(model("queue_rows = 0").is_err());
        let tolerance = model("golden_tolerance = -1").expect_err("negative");
        assert!(tolerance.contains("not negative"), "{tolerance}");
        assert!(model("golden_tolerance = { rel = 1 }").is_err());
        let unknown = model("engine = \"tensorflow\"").expect_err("unknown");
        assert!(
            unknown.contains("auto, tract, rten or onnxruntime"),
            "{unknown}"
        );
    }

    #[test]
    fn label_files_keep_every_line_in_order() {
        assert_eq!(label_lines("a\r\nb\n\nc\n"), ["a", "b", "", "c"]);
    }
}
