//! One table of values that are refused, in every place where they can be set.

use onnxd::config::Config;
use onnxd::config::keys::find;
use onnxd::config::load::Sources;

use super::{from_environment, with_file};

const ADDRESS: &str = "an IP address such as 0.0.0.0";
const PORT: &str = "a port from 0 to 65535";
const BYTES: &str = "bytes such as 1048576 or 64MiB, at least 1";
const ORIGINS: &str = "origins such as https://example.com, or *";
const CACHE_BYTES: &str = "auto, or bytes such as 1073741824 or 4GiB, at least 1";
const VERSION: &str = "a version such as 2 or v2";
const THREADS: &str = "auto, or a number from 1 to 1024";
const LEVEL: &str =
    "error, warn, info, debug, trace or off, also by target such as info,onnxd=debug";

/// Settings, values that they do not take, and what is expected of them.
const REFUSED: &[(&str, &[&str], &str)] = &[
    (
        "server.address",
        &["localhost", "1.2.3", "0.0.0.0:80"],
        ADDRESS,
    ),
    ("server.port", &["65536", "-1", "web", "80.5"], PORT),
    (
        "server.grpc_port",
        &["none", "65536"],
        "a port from 0 to 65535, or off",
    ),
    (
        "server.drain_delay_ms",
        &["-1", "5s", "86400001"],
        "milliseconds from 0 to 86400000",
    ),
    (
        "server.request_timeout_ms",
        &["0", "1.5"],
        "milliseconds from 1 to 86400000",
    ),
    (
        "server.cors_origins",
        &["example.com", "https://a.example, b"],
        ORIGINS,
    ),
    ("limits.body_bytes", &["0", "64MB", "-1", "1.5MiB"], BYTES),
    (
        "limits.tensor_elements",
        &["0", "many"],
        "a whole number of at least 1",
    ),
    (
        "limits.json_depth",
        &["1", "101"],
        "a whole number from 2 to 100",
    ),
    ("repository.cache_bytes", &["0", "4GB", "half"], CACHE_BYTES),
    ("repository.require_all", &["yes", "1"], "true or false"),
    ("models.version", &["latest", "0", "-1", "2.0"], VERSION),
    ("inference.threads", &["0", "1025", "all"], THREADS),
    (
        "inference.queue_rows",
        &["0", "-5"],
        "a whole number of at least 1",
    ),
    ("log.format", &["xml", "JSON"], "auto, pretty or json"),
    ("log.level", &["onnxd=loud"], LEVEL),
];

/// Each refused value with the problem that it gives, but for its origin.
fn refused() -> impl Iterator<Item = (&'static str, &'static str, String)> {
    REFUSED.iter().flat_map(|(key, values, expected)| {
        let case = move |value: &&'static str| {
            (
                *key,
                *value,
                format!("{key}: expected {expected}, got '{value}'"),
            )
        };
        values.iter().map(case)
    })
}

#[test]
fn a_bad_value_in_the_environment_names_its_variable() {
    for (key, value, problem) in refused() {
        let variable = find(key).expect("the key exists").variable();
        let problems = from_environment(&[(&variable, value)]).expect_err(value);
        assert_eq!(
            problems,
            [format!("{problem} (environment variable {variable})")]
        );
    }
}

#[test]
fn what_is_wrong_with_a_url_is_told_without_the_url() {
    let check = |url: &str, problem: &str| {
        let variable = "ONNXD_REPOSITORY__PATH";
        let problems = from_environment(&[(variable, url)]).expect_err(url);
        assert_eq!(
            problems,
            [format!(
                "repository.path: {problem} (environment variable {variable})"
            )]
        );
    };
    check(
        "https://ann:hunter2@host/models",
        "a user or a password in the URL is refused: credentials come from the environment",
    );
    check(
        "az://models?sv=1&sig=hunter2",
        "a query such as a signature in the URL is refused: credentials come from the environment",
    );
    check(
        "ftp://host/models",
        "expected one of s3://, s3a://, gs://, az://, azure://, adl://, abfs://, abfss://, http://, https://, got ftp://",
    );
    check("s3:///models", "the bucket or the host is missing");
}

#[test]
fn a_bad_value_under_another_platforms_name_names_that() {
    let check = |variable: &str, value: &str, problem: &str| {
        let problems = from_environment(&[(variable, value)]).expect_err(value);
        assert_eq!(
            problems,
            [format!("{problem} (environment variable {variable})")]
        );
    };
    check(
        "PORT",
        "http",
        "server.port: expected a port from 0 to 65535, got 'http'",
    );
    check(
        "MODEL_VERSION",
        "newest",
        "models.version: expected a version such as 2 or v2, got 'newest'",
    );
}

#[test]
fn a_bad_value_in_the_file_names_the_file() {
    for (key, value, problem) in refused() {
        let (section, name) = key.split_once('.').expect("a section and a name");
        let (_folder, sources) =
            with_file("onnxd.toml", &format!("[{section}]\n{name} = \"{value}\""));
        let origin = sources
            .file
            .as_deref()
            .expect("there is a file")
            .display()
            .to_string();
        let problems = Config::load(&sources).expect_err(value);
        assert_eq!(problems, [format!("{problem} ({origin})")]);
    }
}

#[test]
fn a_bad_value_of_a_flag_names_the_flag() {
    for (key, value, problem) in refused() {
        let Some(flag) = find(key).expect("the key exists").flag else {
            continue;
        };
        let problems = Config::load(&Sources {
            flags: vec![(key, value.to_owned())],
            ..Sources::default()
        });
        assert_eq!(
            problems.expect_err(value),
            [format!("{problem} (flag {flag})")]
        );
    }
}
