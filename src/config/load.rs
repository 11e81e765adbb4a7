//! Merges the sources of the configuration: defaults, then the file, then the environment, then flags.
//! What a platform expects stands between the defaults and the file.
//!
//! This is the only file that reads the process's environment. Nothing is checked here beyond form: the merged
//! [`Settings`] keep the text and the origin of every value, so that `validate` can report all problems at once.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use config::{ConfigError, Environment, File, Source, Value, ValueKind};

use super::keys::{self, KEYS, Key, SAGEMAKER_DEFAULTS, SAGEMAKER_FOLDER, VARIABLE_PREFIX};

/// Looked for in the working folder when no file is named.
const DEFAULT_FILE: &str = "onnxd.toml";

/// What the configuration is made from, apart from the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file that was named; it must exist.
    pub file: Option<PathBuf>,
    pub environment: HashMap<String, String>,
    /// Whether Amazon SageMaker started the process.
    pub on_sagemaker: bool,
    /// Settings from the command line, by key.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// The sources of this process: its environment and, unless a file is named, `onnxd.toml` where it stands.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Sources {
        let default_file = || {
            Path::new(DEFAULT_FILE)
                .is_file()
                .then(|| PathBuf::from(DEFAULT_FILE))
        };
        let environment = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Sources {
            file: file.or_else(default_file),
            environment: environment.collect(),
            on_sagemaker: Path::new(SAGEMAKER_FOLDER).is_dir(),
            flags,
        }
    }
}

/// Where this process may keep what it can fetch again, the best place first.
pub fn cache_folders() -> Vec<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let home = folder("HOME").map(|home| home.join(".cache"));
    let places = [folder("XDG_CACHE_HOME"), home];
    let places = places
        .into_iter()
        .flatten()
        .filter(|place| place.is_absolute());
    let mut places: Vec<_> = places.map(|place| place.join("onnxd")).collect();
    // That folder is everybody's.
    let user = rustix::process::geteuid().as_raw();
    places.push(std::env::temp_dir().join(format!("onnxd-{user}")));
    places
}

/// One merged value, as text, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    pub text: String,
    pub origin: String,
}

/// The merged values by key; keys that do not exist are still among them.
pub type Settings = BTreeMap<String, Setting>;

/// Merges the sources. The errors are those that keep a source from being read at all.
pub fn merge(sources: &Sources) -> Result<Settings, Vec<String>> {
    let mut problems = Vec::new();
    let mut settings = Settings::new();
    let mut set = |name: &str, text: &str, origin: &str| {
        let (text, origin) = (text.to_owned(), origin.to_owned());
        settings.insert(name.to_owned(), Setting { text, origin });
    };
    for key in KEYS {
        set(key.name, key.default, "default");
    }
    if sources.on_sagemaker {
        for (name, text) in SAGEMAKER_DEFAULTS {
            set(name, text, "default on Amazon SageMaker");
        }
    }
    if let Some(file) = &sources.file {
        let origin = file.display().to_string();
        overlay(
            &mut settings,
            &mut problems,
            File::from(file.as_path()),
            |_| origin.clone(),
        );
    }
    let environment = &sources.environment;
    overlay(&mut settings, &mut problems, aliased(environment), |name| {
        let alias = keys::find(name).and_then(|key| alias(key, environment));
        format!("environment variable {}", alias.unwrap_or_default().0)
    });
    let OurVariables { keyed, stray } = OurVariables::of(&sources.environment);
    overlay(
        &mut settings,
        &mut problems,
        prefixed(keyed),
        variable_origin,
    );
    for name in stray {
        let origin = variable_origin(&name);
        settings.insert(
            name,
            Setting {
                text: String::new(),
                origin,
            },
        );
    }
    for (name, text) in &sources.flags {
        let flag = keys::find(name)
            .and_then(|key| key.flag)
            .unwrap_or_default();
        settings.insert(
            (*name).to_owned(),
            Setting {
                text: text.clone(),
                origin: format!("flag {flag}"),
            },
        );
    }
    if problems.is_empty() {
        Ok(settings)
    } else {
        Err(problems)
    }
}

fn overlay(
    settings: &mut Settings,
    problems: &mut Vec<String>,
    source: impl Source + Send + Sync + 'static,
    origin: impl Fn(&str) -> String,
) {
    match config::Config::builder()
        .add_source(source)
        .build()
        .and_then(|merged| merged.collect())
    {
        Ok(table) => flatten("", &table, &mut |name, text| {
            let origin = origin(&name);
            settings.insert(name, Setting { text, origin });
        }),
        Err(error) => problems.push(readable(&error)),
    }
}

fn readable(error: &ConfigError) -> String {
    error.to_string().replace('\n', " ")
}

/// Walks nested tables down to `section.key`, turning every value into the text that a person would write.
fn flatten(
    prefix: &str,
    table: &config::Map<String, Value>,
    found: &mut impl FnMut(String, String),
) {
    for (name, value) in table {
        let name = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match &value.kind {
            ValueKind::Table(inner) => flatten(&name, inner, found),
            ValueKind::Array(items) => {
                let items: Vec<_> = items.iter().map(ToString::to_string).collect();
                found(name, items.join(","));
            }
            ValueKind::Nil => found(name, String::new()),
            _ => found(name, value.to_string()),
        }
    }
}

/// The variables of the process that name a key of ours, and those that look as if they did.
struct OurVariables {
    keyed: HashMap<String, String>,
    /// Without a section, so no key; left for the check of unknown keys to report.
    stray: Vec<String>,
}

impl OurVariables {
    fn of(environment: &HashMap<String, String>) -> OurVariables {
        let mut found = OurVariables {
            keyed: HashMap::new(),
            stray: Vec::new(),
        };
        for (name, value) in environment {
            match name.strip_prefix(VARIABLE_PREFIX) {
                Some(rest) if rest.contains("__") => {
                    found.keyed.insert(name.clone(), value.clone());
                }
                Some(rest) if !is_service_link(rest, value) => {
                    found.stray.push(rest.to_lowercase())
                }
                _ => {}
            }
        }
        found
    }
}

fn prefixed(variables: HashMap<String, String>) -> Environment {
    Environment::with_prefix(VARIABLE_PREFIX.trim_end_matches('_'))
        .prefix_separator("_")
        .separator("__")
        .ignore_empty(true)
        .source(Some(variables))
}

/// The variables that other platforms set, such as `PORT`, under the names of our own keys.
fn aliased(environment: &HashMap<String, String>) -> Environment {
    let found = KEYS.iter().filter_map(|key| {
        let (_, value) = alias(key, environment)?;
        Some((key.name.replace('.', "__"), value.to_owned()))
    });
    Environment::default()
        .separator("__")
        .ignore_empty(true)
        .source(Some(found.collect()))
}

/// The first of the key's aliases that is set, and to what.
fn alias<'a>(key: &'a Key, environment: &'a HashMap<String, String>) -> Option<(&'a str, &'a str)> {
    let set = |alias: &&'a str| Some((*alias, environment.get(*alias)?.as_str()));
    key.aliases
        .iter()
        .filter_map(set)
        .find(|(_, value)| !value.is_empty())
}

fn variable_origin(name: &str) -> String {
    format!(
        "environment variable {VARIABLE_PREFIX}{}",
        name.replace('.', "__").to_uppercase()
    )
}

/// Kubernetes gives every pod variables for each Service of its namespace unless the pod turns them off; those of a
/// Service called `onnxd` or `onnxd-something` look like ours and are not. `rest` is the name without our prefix.
fn is_service_link(rest: &str, value: &str) -> bool {
    let about_port = rest
        .rsplit_once("PORT_")
        .is_some_and(|(_, of)| of.starts_with(|c: char| c.is_ascii_digit()));
    let about_service =
        rest == "SERVICE_HOST" || rest == "SERVICE_PORT" || rest.starts_with("SERVICE_PORT_");
    about_port
        || about_service
        || rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || (rest.ends_with("PORT") && value.contains("://"))
}
