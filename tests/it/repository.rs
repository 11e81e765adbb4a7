//! What is in the repository: how models are laid out, and whose error a mistake is.

use serde_json::json;

use crate::support::in_repository;
use crate::support::samples::good;
use crate::support::server::{Setup, TestServer};

const BODY: &str = r#"{"instances": [1]}"#;

/// The version that answers a request to `path`.
#[track_caller]
fn check(server: &TestServer, path: &str, version: &str) {
    assert_eq!(
        server.post(path, BODY).ok()["model_version"],
        version,
        "{path}"
    );
}

#[track_caller]
fn check_unready(server: &TestServer, reason: &str) {
    server.get("/health/ready").is_error(503, reason);
}

#[test]
fn a_mistake_in_a_manifest_is_that_models_error() {
    let server = Setup::scripted(good())
        .model("odd/1", good())
        .file("odd/model.toml", "max_batch = 3")
        .start_loaded();
    let reason = server.get("/health/ready").error();
    let expected = "model 'odd' is not served: model.toml: unknown field `max_batch`";
    assert!(reason.starts_with(expected), "{reason}");
    check(&server, "/predict/m", "1");
    assert_eq!(server.post("/predict/odd", BODY).status, 503);
}

#[test]
fn a_version_of_an_unfit_model_is_not_ready_rather_than_unknown() {
    let server = Setup::scripted(good())
        .file("m/model.toml", "max_batch = 3")
        .start_loaded();
    let answer = server.post("/predict/m/1", BODY);
    assert_eq!(
        answer.status,
        503,
        "the version is there, its model is not fit: {}",
        answer.text()
    );
}

#[test]
fn labels_that_do_not_fit_fail_the_version() {
    let check = |labels: &str, reason: &str| {
        let server = Setup::scripted(good())
            .file("m/model.toml", labels)
            .file("m/names.txt", "zero")
            .start_loaded();
        let got = server.get("/health/ready").error();
        assert!(got.contains(reason), "{got}");
    };
    check(
        r#"labels = { output = "y", file = "names.txt" }"#,
        "version 1: unknown output 'y'; the model's outputs are 'x_out'",
    );
    check(
        r#"labels = { output = "x_out", file = "nowhere.txt" }"#,
        "model.toml: labels.file nowhere.txt",
    );
}

#[test]
fn one_version_in_two_folders_is_that_models_error() {
    let server = Setup::scripted(good()).model("m/v1", good()).start_loaded();
    let reason = server.get("/health/ready").error();
    assert!(reason.contains("version 1 is there twice"), "{reason}");
}

#[test]
fn one_name_for_a_folder_and_a_file_is_that_models_error() {
    let server = Setup::scripted(good())
        .file("m.onnx", good().to_string())
        .start_loaded();
    check_unready(
        &server,
        "model 'm' is not served: 'm' and 'm.onnx' are both there",
    );
}

#[test]
fn models_are_found_however_they_are_laid_out() {
    let setup = Setup::empty()
        .model("numbered/3", good())
        .model("lettered/v4", good())
        .model("plain", good())
        .file("bare.onnx", good().to_string())
        .file("train/train.py", "print()")
        .file("README.md", "models")
        .file("with space/1/model.onnx", good().to_string());
    let server = setup.start();
    assert_eq!(
        server.get("/v2/models").ok()["models"],
        json!(["bare", "lettered", "numbered", "plain"])
    );
    check(&server, "/predict/numbered", "3");
    check(&server, "/predict/lettered/4", "4");
    check(&server, "/predict/plain", "1");
    check(&server, "/predict/bare", "1");
}

#[test]
fn a_single_file_is_a_repository() {
    let server = Setup::bundled()
        .with(
            "repository.path",
            &in_repository("models/iris/1/model.onnx").to_string_lossy(),
        )
        .start();
    let answer = server
        .post("/predict", r#"{"instances": [[5.1,3.5,1.4,0.2]]}"#)
        .ok();
    assert_eq!(answer["model_name"], "model");
}
