//! The configuration: every source, one table of what is refused, and all problems at once.

mod refused;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use onnxd::config::keys::{KEYS, markdown};
use onnxd::config::load::Sources;
use onnxd::config::{Config, CorsOrigins, LogFormat};
use tempfile::TempDir;

use crate::support::in_repository;

fn from_environment(variables: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let owned = variables
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    Config::load(&Sources {
        environment: owned.collect::<HashMap<_, _>>(),
        ..Sources::default()
    })
}

/// The sources with one file, in a folder that must outlive them.
fn with_file(name: &str, text: &str) -> (TempDir, Sources) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join(name);
    std::fs::write(&file, text).expect("a temporary file");
    let sources = Sources {
        file: Some(file),
        ..Sources::default()
    };
    (folder, sources)
}

fn from_file(name: &str, text: &str) -> Result<Config, Vec<String>> {
    let (_folder, sources) = with_file(name, text);
    Config::load(&sources)
}

#[test]
fn every_problem_is_told_at_once() {
    let (_folder, mut sources) = with_file(
        "onnxd.toml",
        "[server]\nport = \"web\"\ncolour = 1\n[log]\nformat = \"xml\"",
    );
    sources
        .environment
        .insert("ONNXD_LIMITS__JSON_DEPTH".into(), "1".into());
    sources
        .environment
        .insert("ONNXD_SERVER__WIDTH".into(), "1".into());
    sources.flags.push(("server.address", "here".into()));
    let problems = Config::load(&sources).expect_err("six things are wrong");
    assert_eq!(problems.len(), 6, "{problems:#?}");
    for (name, origin) in [
        ("server.port", "onnxd.toml"),
        ("server.colour", "onnxd.toml"),
        ("log.format", "onnxd.toml"),
        ("limits.json_depth", "ONNXD_LIMITS__JSON_DEPTH"),
        ("server.width", "ONNXD_SERVER__WIDTH"),
        ("server.address", "--address"),
    ] {
        let told = problems
            .iter()
            .any(|problem| problem.contains(name) && problem.contains(origin));
        assert!(told, "{name}: {problems:#?}");
    }
}

#[test]
fn an_unknown_key_is_refused_with_a_hint_where_there_is_one() {
    let file = |name: &str, text: &str| {
        let problems = from_file(name, text).expect_err(text);
        let cut = |problem: &String| match problem.split_once(" (/") {
            Some((start, rest)) => format!(
                "{start}{}",
                rest.split_once(')').expect("the origin ends").1
            ),
            None => problem.clone(),
        };
        problems.iter().map(cut).collect::<Vec<_>>()
    };
    assert_eq!(
        file("onnxd.toml", "port = 8000"),
        ["unknown key port; did you mean server.port (ONNXD_SERVER__PORT)?"]
    );
    assert_eq!(
        file("onnxd.toml", "[server]\ncolour = 1"),
        ["unknown key server.colour"]
    );
    assert_eq!(
        file("onnxd.toml", "[server.port]\nhttp = 1"),
        ["unknown key server.port.http"]
    );
    assert_eq!(
        file("onnxd.yaml", "server:\n  colour: 1"),
        ["unknown key server.colour"]
    );
    assert_eq!(
        file("onnxd.json", r#"{"auth": {"keys": []}}"#),
        ["unknown key auth.keys"]
    );
    assert_eq!(
        from_environment(&[("ONNXD_AUTH__KEYS", "secret")]).expect_err("unknown"),
        ["unknown key auth.keys (environment variable ONNXD_AUTH__KEYS)"]
    );
    assert_eq!(
        from_environment(&[("ONNXD_SERVER_PORT", "1")]).expect_err("unknown"),
        [
            "unknown key server_port (environment variable ONNXD_SERVER_PORT); did you mean server.port (ONNXD_SERVER__PORT)?"
        ]
    );
}

/// The order in which variables come is that of a hash table, so it is tried often.
#[test]
fn an_unknown_section_hides_no_other_setting() {
    for _ in 0..20 {
        let problems = from_environment(&[("ONNXD_SERVER", "x"), ("ONNXD_SERVER__PORT", "web")]);
        let problems = problems.expect_err("both are wrong");
        for name in ["unknown key server ", "server.port: "] {
            assert!(
                problems.iter().any(|problem| problem.starts_with(name)),
                "{name}: {problems:?}"
            );
        }
    }
}

/// Kubernetes sets them in every pod of the namespace, unless the pod's manifest turns that off.
#[test]
fn variables_of_services_beside_us_are_passed_over() {
    let links = [
        ("ONNXD_METRICS_SERVICE_HOST", "10.0.0.1"),
        ("ONNXD_METRICS_SERVICE_PORT", "80"),
        ("ONNXD_METRICS_SERVICE_PORT_HTTP", "80"),
        ("ONNXD_METRICS_PORT", "tcp://10.0.0.1:80"),
        ("ONNXD_METRICS_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("ONNXD_METRICS_PORT_80_TCP_PROTO", "tcp"),
        ("ONNXD_METRICS_PORT_80_TCP_PORT", "80"),
        ("ONNXD_METRICS_PORT_80_TCP_ADDR", "10.0.0.1"),
    ];
    from_environment(&links).expect("a Service called onnxd-metrics is no setting");
}

#[test]
fn a_level_that_is_none_is_refused() {
    for level in ["loud", "wran", "INFOS"] {
        assert!(
            from_environment(&[("RUST_LOG", level)]).is_err(),
            "'{level}' turns the log off in silence"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let missing = Sources {
        file: Some(PathBuf::from("/no/such/onnxd.toml")),
        ..Sources::default()
    };
    let problems = Config::load(&missing).expect_err("it is not there");
    assert!(
        matches!(&problems[..], [one] if one.contains("/no/such/onnxd.toml")),
        "{problems:?}"
    );
    let problems = from_file("onnxd.toml", "[server\nport = 1").expect_err("it is not TOML");
    assert!(
        matches!(&problems[..], [one] if one.contains("onnxd.toml") && !one.contains('\n')),
        "{problems:?}"
    );
    let problems = from_file("onnxd.conf", "port 1").expect_err("it has no form that we read");
    assert!(
        matches!(&problems[..], [one] if one.contains("onnxd.conf")),
        "{problems:?}"
    );
}

#[test]
fn every_source_overrules_the_one_before() {
    let (_folder, mut sources) = with_file("onnxd.toml", "[server]\nport = 1001");
    let port = |sources: &Sources| Config::load(sources).expect("valid").server.port;
    assert_eq!(port(&Sources::default()), 8000);
    assert_eq!(port(&sources), 1001);
    sources.environment.insert("PORT".into(), "1002".into());
    assert_eq!(port(&sources), 1002);
    sources
        .environment
        .insert("ONNXD_SERVER__PORT".into(), "1003".into());
    assert_eq!(port(&sources), 1003);
    sources.flags.push(("server.port", "1004".into()));
    assert_eq!(port(&sources), 1004);
}

#[test]
fn toml_yaml_and_json_say_the_same() {
    let toml = "[server]\nport = 5000\ncors_origins = [\"https://a.example\", \"https://b.example\"]\ndrain_delay_ms = 100\n[limits]\nbody_bytes = \"1MiB\"\n[repository]\nrequire_all = false\n[models]\nversion = 2\n[log]\nformat = \"json\"";
    let yaml = "server:\n  port: 5000\n  cors_origins: [https://a.example, https://b.example]\n  drain_delay_ms: 100\nlimits:\n  body_bytes: 1MiB\nrepository:\n  require_all: false\nmodels:\n  version: 2\nlog:\n  format: json";
    let json = r#"{"server": {"port": 5000, "cors_origins": ["https://a.example", "https://b.example"], "drain_delay_ms": 100}, "limits": {"body_bytes": "1MiB"}, "repository": {"require_all": false}, "models": {"version": 2}, "log": {"format": "json"}}"#;
    for (name, text) in [
        ("onnxd.toml", toml),
        ("onnxd.yaml", yaml),
        ("onnxd.json", json),
    ] {
        let config =
            from_file(name, text).unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
        let origins = ["https://a.example", "https://b.example"].map(str::to_owned);
        assert_eq!(config.server.port, 5000);
        assert_eq!(
            config.server.cors_origins,
            CorsOrigins::List(origins.into())
        );
        assert_eq!(config.server.drain_delay, Duration::from_millis(100));
        assert_eq!(config.limits.body_bytes, 1 << 20);
        assert!(!config.repository.require_all);
        assert_eq!(config.models.version.as_deref(), Some("2"));
        assert_eq!(config.log.format, LogFormat::Json);
    }
}

#[test]
fn an_empty_variable_is_none() {
    let config = from_environment(&[
        ("ONNXD_SERVER__PORT", ""),
        ("MODEL_VERSION", ""),
        ("PORT", "5000"),
    ]);
    let config = config.expect("valid");
    assert_eq!((config.server.port, config.models.version), (5000, None));
}

#[test]
fn the_readme_shows_every_setting() {
    let readme = std::fs::read_to_string(in_repository("README.md")).expect("there is a README");
    assert!(
        readme.contains(&markdown()),
        "the table in README.md should be:\n{}",
        markdown()
    );
    assert!(KEYS.iter().all(|key| !key.meaning.is_empty()));
}
