//! Loading, reloading and unloading through the API, and what requests see of it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use onnxd::shutdown::Stop;
use serde_json::{Value, json};

use crate::support::client::{Answer, Connection, Request};
use crate::support::eventually;
use crate::support::samples::{bad, good, predict, renamed};
use crate::support::server::{Setup, TestServer};

fn explicit() -> Setup {
    Setup::empty().with("repository.mode", "explicit")
}

fn order(server: &TestServer, verb: &str, model: &str) -> Answer {
    server.post(&format!("/v2/repository/models/{model}/{verb}"), "{}")
}

#[track_caller]
fn load(server: &TestServer, model: &str) {
    assert_eq!(order(server, "load", model).ok(), json!({}));
}

#[track_caller]
fn unload(server: &TestServer, model: &str) {
    assert_eq!(order(server, "unload", model).ok(), json!({}));
}

const UNLOADED: &str = "model 'm' was unloaded; POST /v2/repository/models/m/load brings it back";

#[test]
fn what_is_there_at_the_start_is_loaded() {
    let server = explicit().model("m/1", good()).start();
    assert_eq!(server.ask(&predict(1)).status, 200);
    assert_eq!(server.index("{}"), ["m 1 READY"]);
    assert_eq!(server.index(""), ["m 1 READY"], "a body may be left out");
}

#[test]
fn the_index_tells_every_version_or_those_that_are_ready() {
    let server = Setup::empty()
        .model("m/1", good())
        .model("m/2", bad())
        .file("broken/model.toml", "")
        .start_loaded();
    let index_of = |body| server.index(body);
    let all = index_of(r#"{"ready": false}"#);
    assert!(
        all[0].starts_with("broken  UNAVAILABLE there is no model.onnx"),
        "{all:?}"
    );
    assert_eq!(
        all[1..],
        ["m 1 READY", "m 2 UNAVAILABLE the graph has a cycle"]
    );
    assert_eq!(index_of(r#"{"ready": true}"#), ["m 1 READY"]);
    let answer = server.post("/v2/repository/index", r#"{"redy": true}"#);
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("redy"), "{}", answer.text());
}

#[test]
fn a_new_model_is_loaded_while_the_server_runs() {
    let server = explicit().model("m/1", good()).start();
    server.put_model("later/1", &good());
    let missing = server.post("/predict/later", r#"{"instances": [1]}"#);
    missing.is_error(404, "unknown model 'later'; the models are 'm'");
    load(&server, "later");
    let answer = server.post("/predict/later", r#"{"instances": [1]}"#).ok();
    assert_eq!(answer["model_version"], "1");
    assert_eq!(server.index("{}"), ["later 1 READY", "m 1 READY"]);
    let state = |state| {
        server.metric(&format!(
            "onnxd_model_state{{model=\"later\",state=\"{state}\",version=\"1\"}}"
        ))
    };
    assert_eq!((state("ready"), state("loading")), (Some(1.0), Some(0.0)));
    let answer = server.post("/predict", r#"{"instances": [1]}"#).ok();
    assert_eq!(answer["model_name"], "m", "the default stays what it was");
}

#[test]
fn the_first_model_of_an_empty_repository_is_the_default() {
    let server = explicit().start_loaded();
    server.put_model("m/1", &good());
    load(&server, "m");
    server.post("/predict", r#"{"instances": [1]}"#).ok();
    assert_eq!(server.get("/health/ready").status, 200);
}

#[test]
fn a_reload_brings_what_is_in_the_repository_now() {
    let server = explicit().model("m/1", good()).start();
    server.put_model("m/1", &renamed());
    load(&server, "m");
    let metadata = server.get("/v2/models/m").ok();
    assert_eq!(metadata["inputs"][0]["name"], "renamed");
    server.put_model("m/2", &good());
    load(&server, "m");
    assert_eq!(server.get("/v2/models/m").ok()["versions"], json!(["2"]));
    eventually("the old version is gone", || {
        server.index("{}") == ["m 2 READY"]
    });
    let state = server.metric("onnxd_model_state{model=\"m\",state=\"ready\",version=\"1\"}");
    assert_eq!(state, None, "and so is its state");
}

#[test]
fn statistics_are_kept_over_a_reload() {
    let server = explicit().model("m/1", good()).start();
    server.ask(&predict(1)).ok();
    load(&server, "m");
    server.ask(&predict(1)).ok();
    let stats = server.get("/v2/models/m/stats").ok();
    assert_eq!(stats["model_stats"][0]["inference_count"], 2);
}

#[test]
fn a_reload_that_fails_keeps_what_serves_and_says_why() {
    let server = explicit().model("m/1", good()).start();
    server.put_model("m/1", &bad());
    let reason = "the graph has a cycle";
    let failed = format!("model 'm' version 1 failed to load: {reason}; versions served: '1'");
    order(&server, "load", "m").is_error(503, &failed);
    assert_eq!(server.ask(&predict(1)).status, 200);
    assert_eq!(server.get("/health/ready").status, 200);
    let told = format!("what is in the repository now failed to load: {reason}");
    assert_eq!(server.index("{}"), [format!("m 1 READY {told}")]);
    assert_eq!(server.get("/health").ok()["models"][0]["reason"], told);

    server.put_model("m/1", &good());
    server.put_model(
        "m/2",
        &json!({ "inputs": [["x", "INT64", [null]]], "load": "unimplemented" }),
    );
    let reason = "operator Frobnicate is not supported";
    let failed = format!("model 'm' version 2 failed to load: {reason}; versions served: '1'");
    order(&server, "load", "m").is_error(501, &failed);
    assert_eq!(server.ask(&predict(1)).ok()["model_version"], "1");
    assert_eq!(server.get("/health/ready").status, 200);

    std::fs::remove_dir_all(server.repository().join("m/2")).expect("it is there");
    load(&server, "m");
    assert_eq!(server.index("{}"), ["m 1 READY"], "all is well again");
}

#[test]
fn a_new_model_that_fails_leaves_the_server_ready() {
    let server = explicit().model("m/1", good()).start();
    server.put_model("later/1", &bad());
    let failed = "model 'later' version 1 failed to load: the graph has a cycle";
    let answer = order(&server, "load", "later");
    answer.is_error(503, failed);
    assert_eq!(answer.header("retry-after"), Some("30"));
    assert_eq!(server.get("/health/ready").status, 200);
    server.put("later/model.toml", "rows = 3");
    let answer = order(&server, "load", "later");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("30"));
    assert!(answer.error().contains("model.toml: "), "{}", answer.text());
    assert_eq!(server.get("/health/ready").status, 200);
}

#[test]
fn an_unloaded_model_is_gone_until_it_is_loaded_again() {
    let server = explicit()
        .model("m/1", good())
        .model("other/1", good())
        .start();
    for _ in 0..2 {
        unload(&server, "m");
        server.ask(&predict(1)).is_error(404, UNLOADED);
        server
            .get("/v2/models/m/versions/1")
            .is_error(404, UNLOADED);
        server.get("/v2/models/m/ready").is_error(404, UNLOADED);
    }
    assert_eq!(
        server.index("{}"),
        ["m 1 UNAVAILABLE unloaded", "other 1 READY"]
    );
    assert_eq!(server.get("/health").ok()["models"][0]["state"], "unloaded");
    let info =
        "onnxd_model_info{engine=\"script\",model=\"m\",platform=\"onnx_onnxv1\",version=\"1\"}";
    assert_eq!(server.metric(info), None);
    assert_eq!(
        server.metric("onnxd_queue_capacity_rows{model=\"m\",version=\"1\"}"),
        None
    );
    load(&server, "m");
    assert_eq!(server.ask(&predict(1)).status, 200);
    assert_eq!(server.metric(info), Some(1.0));
}

#[test]
fn without_any_model_the_server_is_not_ready() {
    let server = explicit().model("m/1", good()).start();
    unload(&server, "m");
    let reason = "no model is served; 'm': it was unloaded";
    server.get("/health/ready").is_error(503, reason);
    load(&server, "m");
    assert_eq!(server.get("/health/ready").status, 200);
}

#[test]
fn unloading_finishes_what_is_in_flight() {
    let server = explicit().model("m/1", good()).start();
    let mut held = server.send(&Request::post("/predict/m", r#"{"instances": [4]}"#));
    server.gate.wait_for_blocked(1);
    let request = Request::post("/v2/repository/models/m/unload", "");
    let mut unloading = server.send(&request);
    eventually("it drains", || server.index("{}") == ["m 1 UNLOADING"]);
    server.ask(&predict(1)).is_error(404, UNLOADED);
    let draining = server.metric("onnxd_model_state{model=\"m\",state=\"draining\",version=\"1\"}");
    assert_eq!(draining, Some(1.0));
    server.gate.open();
    assert_eq!(held.answer().ok()["predictions"], json!([4]));
    assert_eq!(unloading.answer().status, 200);
    assert_eq!(server.index("{}"), ["m 1 UNAVAILABLE unloaded"]);
}

#[test]
fn what_drains_can_be_loaded_again_at_once() {
    let server = explicit().model("m/1", good()).start();
    let mut held = server.send(&Request::post("/predict/m", r#"{"instances": [4]}"#));
    server.gate.wait_for_blocked(1);
    let mut unloading = server.send(&Request::post("/v2/repository/models/m/unload", ""));
    eventually("it drains", || server.index("{}") == ["m 1 UNLOADING"]);
    load(&server, "m");
    assert_eq!(server.index("{}"), ["m 1 READY"]);
    server.gate.open();
    assert_eq!(held.answer().status, 200);
    assert_eq!(unloading.answer().status, 200);
    assert_eq!(
        server.index("{}"),
        ["m 1 READY"],
        "the end of the old one is not that of the new one"
    );
    assert_eq!(server.ask(&predict(1)).status, 200);
}

/// How many threads of this process wait for the last request to some version of a model.
fn draining(model: &str) -> usize {
    // The kernel keeps so much of a name.
    let name: String = format!("drain-{model}").chars().take(15).collect();
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux tells of threads");
    let names =
        threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
    names.filter(|comm| comm.trim_end() == name).count()
}

#[test]
fn what_was_replaced_may_end_while_its_unloaded_successor_drains() {
    let server = explicit().model("ebbing/1", good()).start();
    let mut replaced = Connection::open(server.address).expect("the server accepts");
    replaced.write(b"POST /predict/ebbing HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{");
    eventually("the first request has begun", || {
        server.metric("onnxd_http_requests_in_flight") == Some(2.0)
    });
    load(&server, "ebbing");
    eventually("the first one drains", || draining("ebbing") == 1);
    let request = Request::post("/predict/ebbing", r#"{"instances": [4]}"#);
    let mut held = server.send(&request);
    server.gate.wait_for_blocked(1);
    let request = Request::post("/v2/repository/models/ebbing/unload", "");
    let mut unloading = server.send(&request);
    eventually("both drain", || draining("ebbing") == 2);
    drop(replaced);
    eventually("the first one has ended", || draining("ebbing") == 1);
    assert_eq!(server.index("{}"), ["ebbing 1 UNLOADING"]);
    server.gate.open();
    assert_eq!(held.answer().status, 200);
    assert_eq!(unloading.answer().status, 200);
    assert_eq!(server.index("{}"), ["ebbing 1 UNAVAILABLE unloaded"]);
    let answer = server.post("/predict/ebbing", r#"{"instances": [1]}"#);
    assert_eq!(answer.status, 404);
}

#[test]
fn a_server_that_goes_away_takes_no_orders() {
    let server = explicit()
        .with("server.drain_delay_ms", "86400000")
        .model("m/1", good())
        .start();
    server.stop(Stop::Terminate);
    eventually("it goes away", || server.get("/health/ready").status == 503);
    for verb in ["load", "unload"] {
        let answer = order(&server, verb, "m");
        answer.is_error(503, "the server is shutting down");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

#[test]
fn an_order_is_carried_out_though_whoever_gave_it_has_left() {
    let server = explicit().model("m/1", good()).start();
    server.put_model(
        "slow/1",
        &json!({ "inputs": [["x", "INT64", [null]]], "load": "block" }),
    );
    let leaving = server.send(&Request::post("/v2/repository/models/slow/load", ""));
    server.gate.wait_for_blocked(1);
    assert_eq!(server.index("{}"), ["m 1 READY", "slow 1 LOADING"]);
    assert_eq!(
        server.get("/health/ready").status,
        200,
        "what serves goes on"
    );
    assert_eq!(server.ask(&predict(1)).status, 200);
    drop(leaving);
    server.gate.open();
    eventually("it is loaded", || {
        server.index("{}") == ["m 1 READY", "slow 1 READY"]
    });
}

#[test]
fn an_order_that_takes_too_long_goes_on() {
    let server = explicit()
        .with("server.request_timeout_ms", "100")
        .model("m/1", good())
        .start();
    server.put_model(
        "slow/1",
        &json!({ "inputs": [["x", "INT64", [null]]], "load": "block" }),
    );
    let message = "model 'slow': this takes longer than a request may, and goes on; the repository index tells how it ends";
    order(&server, "load", "slow").is_error(504, message);
    server.gate.open();
    eventually("it is loaded", || {
        server.index("{}") == ["m 1 READY", "slow 1 READY"]
    });
}

#[test]
fn unknown_models_are_told_apart() {
    let server = explicit().model("m/1", good()).start();
    let message = "there is no model 'rose' in the repository; its models are 'm'";
    order(&server, "load", "rose").is_error(404, message);
    order(&server, "unload", "rose").is_error(404, "unknown model 'rose'; the models are 'm'");
    assert_eq!(order(&server, "load", "..%2F..%2Fetc").status, 404);
}

#[test]
fn what_would_override_the_repository_is_refused() {
    let server = explicit().model("m/1", good()).start();
    let load = |parameters: Value| {
        let body = json!({ "parameters": parameters }).to_string();
        server.post("/v2/repository/models/m/load", body)
    };
    load(json!({ "unload_dependents": true })).ok();
    for name in ["config", "file:1/model.onnx"] {
        let message = format!(
            "parameter '{name}': a model is loaded as it is in the repository, and nothing of it can be overridden"
        );
        load(json!({ name: "{}" })).is_error(400, &message);
    }
    let message = "unknown parameter 'force'; the only one is 'unload_dependents'";
    load(json!({ "force": true })).is_error(400, message);
    let message = "parameter 'unload_dependents': expected true or false, got 1";
    load(json!({ "unload_dependents": 1 })).is_error(400, message);
    assert_eq!(
        server.post("/v2/repository/models/m/load", "[1").status,
        400
    );
}

#[test]
fn without_explicit_mode_nothing_is_loaded_or_unloaded() {
    let told = "set repository.mode (ONNXD_REPOSITORY__MODE) to 'explicit' to load and unload them";
    for (mode, what) in [
        ("static", "models are loaded at start and stay"),
        ("watch", "models follow what is in the repository"),
    ] {
        let server = Setup::scripted(good())
            .with("repository.mode", mode)
            .start();
        for verb in ["load", "unload"] {
            order(&server, verb, "m").is_error(403, &format!("{what}; {told}"));
        }
        assert_eq!(server.ask(&predict(1)).status, 200);
    }
}

/// Requests come all the time; every one of them is answered by one version or the other.
#[test]
fn reloading_under_load_loses_no_request() {
    let server = explicit()
        .with("inference.threads", "2")
        .model("m/1", good())
        .start();
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let answer = server.ask(&predict(1));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for version in 2..12 {
            server.put_model(&format!("m/{version}"), &good());
            load(&server, "m");
            load(&server, "m");
            assert_eq!(server.get("/health/ready").status, 200);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(answered.load(Ordering::Relaxed) > 100);
    assert_eq!(server.ask(&predict(1)).ok()["model_version"], "11");
    eventually("the old versions are gone", || {
        server.index("{}") == ["m 11 READY"]
    });
}
