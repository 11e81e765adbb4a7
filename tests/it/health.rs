//! Health: live for as long as the process answers, ready only when everything that was found is served, and the
//! reason in words whenever it is not.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::server::{Setup, TestServer, bundled};

fn echo() -> Value {
    json!({ "inputs": [["x", "INT64", [null]]] })
}

fn failing(how: &str) -> Value {
    json!({ "inputs": [["x", "INT64", [null]]], "load": how })
}

/// Checks every face that tells readiness; live is live in any state.
#[track_caller]
fn check_unready(server: &TestServer, reason: &str) {
    for path in ["/health/ready", "/readyz"] {
        let answer = server.get(path);
        answer.is_error(503, reason);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    let health = server.get("/health");
    assert_eq!(health.status, 503);
    assert_eq!(health.json()["status"], "unavailable");
    assert_eq!(health.json()["error"], reason);
    let v2 = server.get("/v2/health/ready");
    assert_eq!((v2.status, v2.text()), (503, r#"{"ready":false}"#));
    check_live(server);
}

#[track_caller]
fn check_ready(server: &TestServer) {
    for path in ["/health/ready", "/readyz"] {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, answer.text()),
            (200, r#"{"status":"ready"}"#)
        );
    }
    let health = server.get("/health").ok();
    assert_eq!(health["status"], "ready");
    assert_eq!(health.get("error"), None);
    assert_eq!(
        server.get("/v2/health/ready").ok(),
        json!({ "ready": true })
    );
    check_live(server);
}

#[track_caller]
fn check_live(server: &TestServer) {
    for path in ["/health/live", "/livez"] {
        let answer = server.get(path);
        assert_eq!(
            (answer.status, answer.text()),
            (200, r#"{"status":"live"}"#)
        );
    }
    assert_eq!(server.get("/v2/health/live").ok(), json!({ "live": true }));
}

/// `/health` without what differs from run to run.
#[track_caller]
fn check_summary(server: &TestServer, expected: Expect) {
    let mut summary = server.get("/health").json();
    let uptime = summary["uptime_seconds"].take();
    assert!(
        uptime
            .as_f64()
            .is_some_and(|seconds| (0.0..600.0).contains(&seconds)),
        "{uptime}"
    );
    assert_eq!(summary["version"].take(), env!("CARGO_PKG_VERSION"));
    let models = summary["models"].as_array_mut().expect("a list");
    for model in models.iter_mut().filter(|model| model["state"] == "ready") {
        assert!(model["batch_rows"].take().is_u64(), "{model}");
        assert!(model["batch_reason"].take().is_string(), "{model}");
    }
    expected.assert_eq(&format!("{summary:#}"));
}

#[test]
fn a_server_whose_models_all_serve_is_ready() {
    check_ready(bundled());
    check_summary(
        bundled(),
        expect![[r#"
            {
              "status": "ready",
              "name": "onnxd",
              "version": null,
              "uptime_seconds": null,
              "default_model": "iris",
              "models": [
                {
                  "name": "digits",
                  "version": "1",
                  "state": "ready",
                  "engine": "tract",
                  "engine_reason": "no other engine was asked; 2 golden requests as expected",
                  "workers": 1,
                  "threads_per_worker": 1,
                  "batch_rows": null,
                  "batch_reason": null,
                  "engines": [
                    {
                      "name": "tract",
                      "standing": "alone",
                      "reason": "no other engine was asked; 2 golden requests as expected"
                    }
                  ]
                },
                {
                  "name": "digits",
                  "version": "2",
                  "state": "ready",
                  "engine": "tract",
                  "engine_reason": "no other engine was asked; 2 golden requests as expected",
                  "workers": 1,
                  "threads_per_worker": 1,
                  "batch_rows": null,
                  "batch_reason": null,
                  "engines": [
                    {
                      "name": "tract",
                      "standing": "alone",
                      "reason": "no other engine was asked; 2 golden requests as expected"
                    }
                  ]
                },
                {
                  "name": "iris",
                  "version": "1",
                  "state": "ready",
                  "engine": "tract",
                  "engine_reason": "no other engine was asked; 2 golden requests as expected",
                  "workers": 1,
                  "threads_per_worker": 1,
                  "batch_rows": null,
                  "batch_reason": null,
                  "engines": [
                    {
                      "name": "tract",
                      "standing": "alone",
                      "reason": "no other engine was asked; 2 golden requests as expected"
                    }
                  ]
                },
                {
                  "name": "iris",
                  "version": "2",
                  "state": "ready",
                  "engine": "tract",
                  "engine_reason": "no other engine was asked; 2 golden requests as expected",
                  "workers": 1,
                  "threads_per_worker": 1,
                  "batch_rows": null,
                  "batch_reason": null,
                  "engines": [
                    {
                      "name": "tract",
                      "standing": "alone",
                      "reason": "no other engine was asked; 2 golden requests as expected"
                    }
                  ]
                },
                {
                  "name": "wine",
                  "version": "1",
                  "state": "ready",
                  "engine": "tract",
                  "engine_reason": "no other engine was asked; 2 golden requests as expected",
                  "workers": 1,
                  "threads_per_worker": 1,
                  "batch_rows": null,
                  "batch_reason": null,
                  "engines": [
                    {
                      "name": "tract",
                      "standing": "alone",
                      "reason": "no other engine was asked; 2 golden requests as expected"
                    }
                  ]
                }
              ]
            }"#]],
    );
}

#[test]
fn a_server_that_loads_listens_and_says_so() {
    let server = Setup::scripted(failing("block")).start_loading();
    server.gate.wait_for_blocked(1);
    check_unready(&server, "model 'm' version 1 is being loaded");
    check_summary(
        &server,
        expect![[r#"
        {
          "status": "unavailable",
          "error": "model 'm' version 1 is being loaded",
          "name": "onnxd",
          "version": null,
          "uptime_seconds": null,
          "default_model": "m",
          "models": [
            {
              "name": "m",
              "version": "1",
              "state": "loading"
            }
          ]
        }"#]],
    );
    for (path, body) in [
        ("/predict", "{}"),
        ("/predict/m", "{}"),
        ("/v2/models/m/infer", "{}"),
    ] {
        let answer = server.post(path, body);
        answer.is_error(503, "model 'm' is being loaded; try again");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    let answer = server.post("/predict/m/1", "{}");
    answer.is_error(503, "model 'm' version 1 is being loaded; try again");
    assert_eq!(server.get("/v2/models/m/ready").status, 503);
    server.gate.open();
    eventually("the model is loaded", || {
        server.get("/health/ready").status == 200
    });
    check_ready(&server);
}

#[test]
fn an_empty_repository_is_not_ready() {
    let server = Setup::empty()
        .file("README.md", "no models yet")
        .start_loaded();
    check_unready(&server, "no model is served: the repository is empty");
    check_summary(
        &server,
        expect![[r#"
        {
          "status": "unavailable",
          "error": "no model is served: the repository is empty",
          "name": "onnxd",
          "version": null,
          "uptime_seconds": null,
          "default_model": null,
          "models": []
        }"#]],
    );
    assert_eq!(server.get("/v2/models").ok(), json!({ "models": [] }));
    let answer = server.post("/predict/m", "{}");
    answer.is_error(404, "unknown model 'm': the repository is empty");
}

#[test]
fn a_repository_that_cannot_be_read_is_told_as_such() {
    let server = Setup::empty()
        .with("repository.path", "/no/such/folder")
        .start_loaded();
    let reason = "the model repository /no/such/folder cannot be read: No such file or directory (os error 2)";
    check_unready(&server, reason);
    for path in ["/predict", "/predict/m"] {
        let message = server.post(path, "{}").error();
        assert!(
            !message.contains("is empty"),
            "nobody knows what is in it: {message}"
        );
    }
}

#[test]
fn one_model_that_fails_keeps_the_server_from_traffic() {
    let server = Setup::scripted(echo())
        .model("bad/1", failing("fail"))
        .start_loaded();
    check_unready(
        &server,
        "model 'bad' is not served: version 1: the graph has a cycle",
    );
    check_summary(
        &server,
        expect![[r#"
            {
              "status": "unavailable",
              "error": "model 'bad' is not served: version 1: the graph has a cycle",
              "name": "onnxd",
              "version": null,
              "uptime_seconds": null,
              "default_model": null,
              "models": [
                {
                  "name": "bad",
                  "version": "1",
                  "state": "failed",
                  "reason": "the graph has a cycle"
                },
                {
                  "name": "m",
                  "version": "1",
                  "state": "ready",
                  "engine": "script",
                  "engine_reason": "no other engine was asked",
                  "workers": 1,
                  "threads_per_worker": 1,
                  "batch_rows": null,
                  "batch_reason": null,
                  "engines": [
                    {
                      "name": "script",
                      "standing": "alone",
                      "reason": "no other engine was asked"
                    }
                  ]
                }
              ]
            }"#]],
    );
    assert_eq!(
        server.post("/predict/m", r#"{"instances": [1]}"#).status,
        200
    );
    let answer = server.post("/predict/bad", "{}");
    answer.is_error(503, "model 'bad' is not served: the graph has a cycle");
    assert_eq!(answer.header("retry-after"), Some("30"));
    assert_eq!(server.get("/v2/models/bad/ready").status, 503);
}

#[test]
fn without_require_all_the_models_that_serve_are_enough() {
    let server = Setup::scripted(echo())
        .model("bad/1", failing("fail"))
        .with("repository.require_all", "false")
        .start();
    check_ready(&server);
    assert_eq!(server.post("/predict/bad", "{}").status, 503);
}

#[test]
fn without_require_all_one_model_must_serve() {
    let server = Setup::scripted(failing("panic"))
        .with("repository.require_all", "false")
        .start_loaded();
    check_unready(
        &server,
        "no model is served; 'm': version 1: the engine panicked while loading: as the script says",
    );
}

#[test]
fn a_load_that_does_not_end_is_given_up_and_the_others_serve() {
    let server = Setup::scripted(echo())
        .model("stuck/3", failing("block"))
        .with("inference.load_timeout_ms", "1000")
        .with("repository.require_all", "false")
        .start();
    check_ready(&server);
    let reason = "loading took longer than inference.load_timeout_ms (1000 ms) and was given up";
    server
        .post("/predict/stuck", "{}")
        .is_error(503, &format!("model 'stuck' is not served: {reason}"));
    let abandoned = "onnxd_model_loads_abandoned_total{model=\"stuck\",version=\"3\"}";
    assert_eq!(server.metric(abandoned), Some(1.0));
    server.gate.open();
}

#[test]
fn a_model_that_this_build_cannot_run_answers_501() {
    let server = Setup::scripted(failing("unimplemented")).start_loaded();
    check_unready(
        &server,
        "model 'm' is not served: version 1: operator Frobnicate is not supported",
    );
    for path in [
        "/predict",
        "/predict/m",
        "/predict/m/1",
        "/v2/models/m/infer",
    ] {
        let answer = server.post(path, "{}");
        answer.is_error(
            501,
            "model 'm' is not served: operator Frobnicate is not supported",
        );
        assert_eq!(answer.header("retry-after"), None, "waiting will not help");
    }
}

#[test]
fn a_file_that_is_no_model_is_told_as_such() {
    let server = Setup::empty()
        .file("m/1/model.onnx", "not a model")
        .on_tract()
        .start_loaded();
    let reason = server.get("/health/ready").error();
    let expected = "model 'm' is not served: version 1: the file is not an ONNX model";
    assert!(reason.starts_with(expected), "{reason}");
}
