//! Which model and version a request means, and what stands in when the newest does not load.

use serde_json::{Value, json};

use crate::support::samples::{bad, good};
use crate::support::server::{Setup, TestServer, bundled};

const BODY: &str = r#"{"instances": [1]}"#;

/// The model and version that answer a request to `path`.
#[track_caller]
fn answered_by(server: &TestServer, path: &str) -> (String, String) {
    let answer = server.post(path, BODY).ok();
    let text = |key: &str| answer[key].as_str().expect("text").to_owned();
    (text("model_name"), text("model_version"))
}

#[track_caller]
fn check(server: &TestServer, path: &str, version: &str) {
    assert_eq!(answered_by(server, path).1, version, "{path}");
}

#[track_caller]
fn check_unready(server: &TestServer, reason: &str) {
    server.get("/health/ready").is_error(503, reason);
}

fn three_versions() -> Setup {
    Setup::empty()
        .model("m/1", good())
        .model("m/2", good())
        .model("m/10", good())
}

#[test]
fn the_newest_version_serves_alone() {
    let server = three_versions().start();
    check(&server, "/predict/m", "10");
    check(&server, "/predict/m/10", "10");
    check(&server, "/predict/m/v10", "10");
    let message = "model 'm' has no version '2'; the versions served are '10'";
    server.post("/predict/m/2", BODY).is_error(404, message);
    assert_eq!(server.get("/v2/models/m").ok()["versions"], json!(["10"]));
}

#[test]
fn when_the_newest_version_fails_the_next_older_one_serves() {
    let server = three_versions().model("m/10", bad()).start();
    check(&server, "/predict/m", "2");
    let metadata = server.get("/v2/models/m/versions/2").ok();
    assert_eq!(metadata["name"], "m");
    assert_eq!(server.get("/v2/models/m").ok()["versions"], json!(["2"]));
    let mut states = server.get("/health").ok()["models"].clone();
    let ready = states[0].as_object_mut().expect("a model is an object");
    ready.retain(|key, _| ["name", "version", "state"].contains(&key.as_str()));
    let expected = json!([
        { "name": "m", "version": "2", "state": "ready" },
        { "name": "m", "version": "10", "state": "failed", "reason": "the graph has a cycle" },
    ]);
    assert_eq!(states, expected);
}

#[test]
fn a_policy_says_how_many_versions_serve() {
    let server = three_versions()
        .file("m/model.toml", "versions = { latest = 2 }")
        .start();
    assert_eq!(
        server.get("/v2/models/m").ok()["versions"],
        json!(["2", "10"])
    );
    check(&server, "/predict/m", "10");
    let server = three_versions()
        .file("m/model.toml", "versions = \"all\"")
        .start();
    assert_eq!(
        server.get("/v2/models/m").ok()["versions"],
        json!(["1", "2", "10"])
    );
    let server = three_versions()
        .file("m/model.toml", "versions = { pinned = [\"v1\", 2] }")
        .start();
    assert_eq!(
        server.get("/v2/models/m").ok()["versions"],
        json!(["1", "2"])
    );
    check(&server, "/predict/m", "2");
}

#[test]
fn a_manifest_may_choose_the_default_version() {
    let manifest = "versions = \"all\"\ndefault_version = 2";
    let server = three_versions().file("m/model.toml", manifest).start();
    check(&server, "/predict", "2");
    check(&server, "/predict/m", "2");
    check(&server, "/predict/m/10", "10");
}

#[test]
fn a_pinned_version_is_served_and_is_the_default() {
    let server = three_versions().with("models.version", "v2").start();
    check(&server, "/predict", "2");
    check(&server, "/predict/m", "2");
    assert_eq!(server.post("/predict/m/10", BODY).status, 404);
}

#[test]
fn a_pin_is_of_the_default_model_alone() {
    let server = three_versions()
        .model("other/7", good())
        .file("repository.toml", "default = \"m\"")
        .with("models.version", "1")
        .start();
    check(&server, "/predict", "1");
    check(&server, "/predict/other", "7");
}

#[test]
fn a_pinned_version_that_is_not_there_keeps_the_server_from_traffic() {
    let server = three_versions().with("models.version", "7").start_loaded();
    let reason = "it is asked for (by MODEL_VERSION, models.version or model.toml) and the repository has 1, 2, 10";
    check_unready(
        &server,
        &format!("model 'm' is not served: version 7: {reason}"),
    );
    server
        .post("/predict", BODY)
        .is_error(503, &format!("model 'm' is not served: {reason}"));
}

#[test]
fn a_pinned_version_that_fails_has_no_stand_in() {
    let server = three_versions()
        .model("m/2", bad())
        .with("models.version", "2")
        .start_loaded();
    check_unready(
        &server,
        "model 'm' is not served: version 2: the graph has a cycle",
    );
    assert_eq!(server.post("/predict", BODY).status, 503);
}

#[test]
fn the_pin_works_on_the_bundled_models() {
    let server = Setup::bundled().with("models.version", "1").start();
    let answer = server
        .post("/predict", r#"{"instances": [[5.1,3.5,1.4,0.2]]}"#)
        .ok();
    assert_eq!(
        (&answer["model_name"], &answer["model_version"]),
        (&json!("iris"), &json!("1"))
    );
}

#[test]
fn the_only_model_is_the_default() {
    check(
        &Setup::empty().model("alone/3", good()).start(),
        "/predict",
        "3",
    );
}

#[test]
fn the_repository_names_the_default_and_the_configuration_overrules_it() {
    let two = || {
        Setup::empty()
            .model("a/1", good())
            .model("b/1", good())
            .file("repository.toml", "default = \"b\"")
    };
    assert_eq!(answered_by(&two().start(), "/predict").0, "b");
    assert_eq!(
        answered_by(&two().with("models.default", "a").start(), "/predict").0,
        "a"
    );
    let answer = bundled()
        .post("/predict", r#"{"instances": [[5.1,3.5,1.4,0.2]]}"#)
        .ok();
    assert_eq!(
        answer["model_name"], "iris",
        "as models/repository.toml says"
    );
}

#[test]
fn without_a_default_only_predict_itself_is_missing() {
    let server = Setup::empty()
        .model("a/1", good())
        .model("b/1", good())
        .start();
    let message = "there is no default model: name one in the path, or set models.default; the models are 'a', 'b'";
    server.post("/predict", BODY).is_error(404, message);
    check(&server, "/predict/a", "1");
    assert_eq!(server.get("/health").ok()["default_model"], Value::Null);
}

#[test]
fn a_default_that_does_not_exist_touches_only_its_route() {
    let server = Setup::scripted(good())
        .with("models.default", "rose")
        .start();
    let answer = server.post("/predict", BODY);
    answer.is_error(404, "unknown model 'rose'; the models are 'm'");
    check(&server, "/predict/m", "1");
}
