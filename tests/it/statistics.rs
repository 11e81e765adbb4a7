//! Statistics agree with what clients sent.

use serde_json::{Value, json};

use crate::support::client::Request;
use crate::support::eventually;
use crate::support::server::{Setup, TestServer, bundled};

fn one_model() -> Setup {
    Setup::scripted(
        json!({ "inputs": [["x", "INT64", [null]]], "on": { "3": "fail", "4": "block" } }),
    )
}

fn of(server: &TestServer, path: &str) -> Value {
    server.get(path).ok()["model_stats"][0].clone()
}

fn send(server: &TestServer, values: &[i64]) -> u16 {
    let body = json!({ "inputs": [{ "name": "x", "shape": [values.len()], "datatype": "INT64", "data": values }] });
    server.post("/v2/models/m/infer", body.to_string()).status
}

#[test]
fn every_field_is_there_before_the_first_request() {
    let server = one_model().start();
    let none = json!({ "count": 0, "ns": 0 });
    let expected = json!({
        "name": "m",
        "version": "1",
        "last_inference": 0,
        "inference_count": 0,
        "execution_count": 0,
        "inference_stats": {
            "success": none, "fail": none, "queue": none, "compute_input": none, "compute_infer": none,
            "compute_output": none, "cache_hit": none, "cache_miss": none,
        },
        "batch_stats": [],
        "memory_usage": [],
    });
    for path in [
        "/v2/models/stats",
        "/v2/models/m/stats",
        "/v2/models/m/versions/1/stats",
    ] {
        assert_eq!(of(&server, path), expected, "{path}");
    }
}

#[test]
fn requests_rows_and_runs_are_counted_as_they_were_sent() {
    let server = one_model().start();
    for _ in 0..5 {
        assert_eq!(send(&server, &[1]), 200);
    }
    for _ in 0..3 {
        assert_eq!(send(&server, &[1, 2, 1, 2]), 200);
    }
    assert_eq!(send(&server, &[3]), 500);
    assert_eq!(server.post("/v2/models/m/infer", "{").status, 400);
    let stats = of(&server, "/v2/models/m/stats");
    assert_eq!(stats["inference_count"], 5 + 3 * 4);
    assert_eq!(stats["execution_count"], 8);
    let inference = &stats["inference_stats"];
    for phase in [
        "success",
        "queue",
        "compute_input",
        "compute_infer",
        "compute_output",
    ] {
        assert_eq!(inference[phase]["count"], 8, "{phase}");
    }
    assert_eq!(inference["fail"]["count"], 2);
    let sizes = stats["batch_stats"].as_array().expect("a list").iter();
    let sizes = sizes.map(|batch| (&batch["batch_size"], &batch["compute_infer"]["count"]));
    let expected = [(&json!(1), &json!(5)), (&json!(4), &json!(3))];
    assert_eq!(sizes.collect::<Vec<_>>(), expected);
    assert!(stats["last_inference"].as_u64() > Some(1_700_000_000_000));
}

/// What perf_analyzer reads as the server's share of a request's time.
#[test]
fn the_phases_add_up_to_no_more_than_the_whole() {
    let server = one_model().start();
    for _ in 0..20 {
        assert_eq!(send(&server, &[1, 2, 5]), 200);
    }
    let inference = of(&server, "/v2/models/m/stats")["inference_stats"].clone();
    let ns = |phase: &str| inference[phase]["ns"].as_u64().expect("nanoseconds");
    let phases = ["queue", "compute_input", "compute_infer", "compute_output"];
    let parts: u64 = phases.into_iter().map(ns).sum();
    assert!(parts > 0 && parts <= ns("success"), "{inference}");
    for phase in ["compute_input", "compute_infer", "compute_output"] {
        assert!(ns(phase) > 0, "{phase} takes time: {inference}");
    }
}

#[test]
fn whoever_leaves_counts_as_failed() {
    let server = one_model().start();
    let body = r#"{"instances": [4]}"#;
    let connection = server.send(&Request::post("/predict/m", body));
    server.gate.wait_for_blocked(1);
    drop(connection);
    let fails = || of(&server, "/v2/models/m/stats")["inference_stats"]["fail"]["count"] == 1;
    eventually("the request is counted", fails);
    let stats = of(&server, "/v2/models/m/stats");
    assert_eq!(stats["inference_stats"]["success"]["count"], 0);
}

#[test]
fn an_answer_that_cannot_be_written_counts_as_failed_in_statistics_and_metrics() {
    let outputs = json!([["y", "INT64", [null]], ["z", "INT64", [3]]]);
    let script = json!({ "inputs": [["x", "INT64", [null]]], "outputs": outputs });
    let server = Setup::scripted(script).start();
    let answer = server.post("/predict/m", r#"{"instances": [1]}"#);
    assert_eq!(answer.status, 400, "its outputs have no common rows");
    let inference = of(&server, "/v2/models/m/stats")["inference_stats"].clone();
    assert_eq!(inference["success"]["count"], 0);
    assert_eq!(inference["fail"]["count"], 1);
    let requests = |outcome: &str| {
        let labels = format!("{{model=\"m\",outcome=\"{outcome}\",version=\"1\"}}");
        server.metric(&format!("onnxd_inference_requests_total{labels}"))
    };
    assert_eq!(
        (requests("ok"), requests("invalid")),
        (Some(0.0), Some(1.0))
    );
}

#[test]
fn a_request_without_rows_counts_as_a_request_and_a_run_alone() {
    let server = one_model().start();
    assert_eq!(send(&server, &[]), 200);
    assert_eq!(send(&server, &[1, 2]), 200);
    let stats = of(&server, "/v2/models/m/stats");
    assert_eq!(stats["inference_count"], 2);
    assert_eq!(stats["execution_count"], 2);
    assert_eq!(stats["inference_stats"]["success"]["count"], 2);
    let sizes = stats["batch_stats"].as_array().expect("a list").iter();
    let sizes: Vec<_> = sizes.map(|batch| &batch["batch_size"]).collect();
    assert_eq!(sizes, [0, 2]);
    let rows = server.metric("onnxd_inference_rows_total{model=\"m\",version=\"1\"}");
    assert_eq!(rows, Some(2.0));
}

#[test]
fn each_served_version_has_its_own() {
    let rows = || json!({ "inputs": [["x", "INT64", [null]]] });
    let server = Setup::empty()
        .model("a/1", rows())
        .model("m/1", rows())
        .model("m/2", rows())
        .file("m/model.toml", "versions = \"all\"")
        .start();
    let body = r#"{"instances": [1]}"#;
    server.post("/predict/m/1", body).ok();
    let counts = |path: &str| -> Vec<(Value, Value, Value)> {
        let all = server.get(path).ok()["model_stats"].clone();
        let all = all.as_array().expect("a list").iter();
        all.map(|one| {
            let [name, version, count] =
                ["name", "version", "inference_count"].map(|key| one[key].clone());
            (name, version, count)
        })
        .collect()
    };
    let row = |name: &str, version: &str, count: u64| (json!(name), json!(version), json!(count));
    let of_m = [row("m", "1", 1), row("m", "2", 0)];
    assert_eq!(counts("/v2/models/m/stats"), of_m);
    assert_eq!(counts("/v2/models/m/versions/1/stats"), of_m[..1]);
    let all = [row("a", "1", 0), row("m", "1", 1), row("m", "2", 0)];
    assert_eq!(counts("/v2/models/stats"), all);
}

#[test]
fn tritons_names_are_there_where_they_are_asked_for() {
    let server = one_model().with("metrics.triton_aliases", "true").start();
    assert_eq!(send(&server, &[1, 2]), 200);
    assert_eq!(send(&server, &[3]), 500);
    let metric = |name: &str| {
        let series = format!("nv_inference_{name}{{model=\"m\",version=\"1\"}}");
        server.metric(&series)
    };
    let counts = ["request_success", "request_failure", "count", "exec_count"].map(metric);
    assert_eq!(counts, [1, 1, 2, 1].map(|count| Some(f64::from(count))));
    let whole = metric("request_duration_us").expect("it is there");
    for part in ["queue", "compute_input", "compute_infer", "compute_output"] {
        let part = metric(&format!("{part}_duration_us")).expect("it is there");
        assert!(part <= whole);
    }
    let plain = one_model().start();
    assert!(!plain.get("/metrics").text().contains("nv_inference"));
}

#[test]
fn an_unknown_model_or_version_has_none() {
    let message = "unknown model 'rose'; the models are 'digits', 'iris', 'wine'";
    bundled()
        .get("/v2/models/rose/stats")
        .is_error(404, message);
    let message = "model 'iris' has no version '7'; the versions served are '2', '1'";
    let answer = bundled().get("/v2/models/iris/versions/7/stats");
    answer.is_error(404, message);
}
