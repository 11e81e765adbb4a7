//! The metrics page: its names, types and labels are a contract, and no client can add to them.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
use serde_json::json;

use crate::support::client::Request;
use crate::support::eventually;
use crate::support::samples::{moody, predict};
use crate::support::server::TestServer;

fn outcome(server: &TestServer, outcome: &str) -> Option<f64> {
    let labels = format!(r#"model="m",outcome="{outcome}",version="1""#);
    server.metric(&format!("onnxd_inference_requests_total{{{labels}}}"))
}

#[test]
fn names_types_and_labels_are_those_that_dashboards_know() {
    let server = moody().start();
    assert_eq!(server.ask(&predict(0)).status, 200);
    let page = server.get("/metrics");
    assert_eq!(
        page.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let (mut kinds, mut labels) = (BTreeMap::new(), BTreeMap::new());
    for line in page.text().lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            kinds.extend(family.split_once(' '));
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').expect("a series and its value");
            let (name, pairs) = series.split_once('{').unwrap_or((series, ""));
            let names: &mut BTreeSet<_> = labels.entry(name).or_default();
            names.extend(
                pairs
                    .split(',')
                    .filter_map(|pair| Some(pair.split_once('=')?.0)),
            );
        }
    }
    let of = |family: &str, kind: &str| match kind {
        "histogram" => labels[format!("{family}_bucket").as_str()].clone(),
        _ => labels[family].clone(),
    };
    let described = kinds.iter().map(|(family, kind)| {
        let labels: Vec<_> = of(family, kind).into_iter().collect();
        format!("{family} {kind} {}", labels.join(","))
            .trim_end()
            .to_owned()
    });
    // Which readings of the control group there are depends on the machine.
    let everywhere = described.filter(|line| !line.starts_with("onnxd_cgroup_"));
    expect![[r#"
        onnxd_batch_rows histogram le,model,version
        onnxd_bodies_in_flight_bytes gauge
        onnxd_bodies_in_flight_capacity_bytes gauge
        onnxd_build_info gauge commit,rustc,version
        onnxd_compute_duration_seconds histogram le,model,version
        onnxd_connections gauge
        onnxd_connections_closed_total counter limit
        onnxd_cpu_usage_ratio gauge
        onnxd_grpc_requests_in_flight gauge
        onnxd_http_request_duration_seconds histogram le,method,route,status
        onnxd_http_requests_in_flight gauge
        onnxd_http_requests_total counter method,route,status
        onnxd_inference_batches_total counter model,version
        onnxd_inference_duration_seconds histogram le,model,version
        onnxd_inference_requests_total counter model,outcome,version
        onnxd_inference_rows_total counter model,version
        onnxd_memory_free_bytes gauge
        onnxd_memory_limit_bytes gauge
        onnxd_memory_loading_bytes gauge
        onnxd_memory_models_bytes gauge
        onnxd_memory_requests_bytes gauge
        onnxd_model_info gauge engine,model,platform,version
        onnxd_model_load_duration_seconds gauge model,version
        onnxd_model_memory_bytes gauge model,version
        onnxd_model_state gauge model,state,version
        onnxd_plan_cache_bytes gauge
        onnxd_plan_cache_hits_total counter
        onnxd_plan_cache_misses_total counter
        onnxd_plan_cache_plans gauge
        onnxd_queue_bytes gauge model,version
        onnxd_queue_capacity_bytes gauge model,version
        onnxd_queue_capacity_rows gauge model,version
        onnxd_queue_dropped_total counter model,reason,version
        onnxd_queue_duration_seconds histogram le,model,version
        onnxd_queue_rows gauge model,version
        onnxd_repository_readable gauge
        process_cpu_seconds_total counter
        process_open_fds gauge
        process_resident_memory_bytes gauge
        process_start_time_seconds gauge"#]]
    .assert_eq(&everywhere.collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_metric_says_what_it_is() {
    let server = moody().start();
    let page = server.get("/metrics");
    for line in page.text().lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a name and a text");
            assert!(text.ends_with('.'), "{name}: {text}");
        }
    }
}

#[test]
fn a_request_that_is_answered_is_ok() {
    let server = moody().start();
    assert_eq!(server.ask(&predict(0)).status, 200);
    assert_eq!(outcome(&server, "ok"), Some(1.0));
    let of_model = |name: &str| server.metric(&format!("{name}{{model=\"m\",version=\"1\"}}"));
    for name in [
        "onnxd_inference_rows_total",
        "onnxd_inference_batches_total",
        "onnxd_inference_duration_seconds_count",
        "onnxd_queue_duration_seconds_count",
        "onnxd_compute_duration_seconds_count",
        "onnxd_batch_rows_sum",
    ] {
        assert_eq!(of_model(name), Some(1.0), "{name}");
    }
    let answered = r#"{method="POST",route="/predict/{model}",status="200"}"#;
    assert_eq!(
        server.metric(&format!("onnxd_http_requests_total{answered}")),
        Some(1.0)
    );
}

#[test]
fn a_malformed_request_is_invalid() {
    let server = moody().start();
    assert_eq!(server.post("/predict/m", "{}").status, 400);
    assert_eq!(
        server.post("/predict/m", r#"{"instances": [[1]]}"#).status,
        400
    );
    assert_eq!(outcome(&server, "invalid"), Some(2.0));
}

#[test]
fn an_engine_that_fails_or_panics_is_counted_as_failed() {
    let server = moody().start();
    assert_eq!(server.ask(&predict(2)).status, 500);
    assert_eq!(server.ask(&predict(3)).status, 500);
    assert_eq!(outcome(&server, "failed"), Some(2.0));
    assert_eq!(outcome(&server, "ok"), Some(0.0));
}

#[test]
fn a_request_that_the_queue_refuses_is_rejected() {
    let server = moody().with("inference.queue_rows", "1").start();
    let _running = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    let _queued = server.send(&predict(0));
    let queue_rows = r#"onnxd_queue_rows{model="m",version="1"}"#;
    eventually("one row waits", || server.metric(queue_rows) == Some(1.0));
    assert_eq!(server.ask(&predict(0)).status, 429);
    assert_eq!(outcome(&server, "rejected"), Some(1.0));
}

#[test]
fn a_request_whose_deadline_passes_is_expired() {
    let server = moody().start();
    let _running = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    let answer = server.ask(&predict(0).with("x-request-timeout-ms", "20"));
    assert_eq!(answer.status, 504);
    assert_eq!(outcome(&server, "expired"), Some(1.0));
}

#[test]
fn a_request_that_meets_the_servers_own_deadline_is_expired() {
    let server = moody().with("server.request_timeout_ms", "100").start();
    assert_eq!(server.ask(&predict(1)).status, 504);
    let ended = ["expired", "canceled"].map(|name| outcome(&server, name));
    assert_eq!(ended, [Some(1.0), Some(0.0)], "expired, canceled");
}

#[test]
fn a_request_whose_client_goes_away_is_canceled() {
    let server = moody().start();
    let running = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    drop(running);
    eventually("the request is counted", || {
        outcome(&server, "canceled") == Some(1.0)
    });
    let gone = r#"{method="POST",route="/predict/{model}",status="499"}"#;
    eventually("the exchange is counted", || {
        server.metric(&format!("onnxd_http_requests_total{gone}")) == Some(1.0)
    });
}

#[test]
fn strangers_mint_no_series() {
    let server = moody().start();
    for path in ["/nowhere", "/predict/m/1/more", "/wp-login.php"] {
        server.get(path);
    }
    server.post("/predict/rose", "{}");
    server.post("/predict/m/99", "{}");
    server.post("/v2/models/%ff/infer", "{}");
    server.ask(&Request::new("BREW", "/predict"));
    server.ask(&Request::new("PROPFIND", "/nowhere"));
    let page = server.get("/metrics");
    let series = |name: &str, labels: &str, value: u32| {
        let line = format!("onnxd_http_requests_total{{{labels}}} {value}");
        assert!(
            page.text().lines().any(|found| found == line),
            "{name}: {}",
            page.text()
        );
    };
    series(
        "unknown paths",
        r#"method="GET",route="unmatched",status="404""#,
        3,
    );
    series(
        "an odd method",
        r#"method="other",route="/predict",status="405""#,
        1,
    );
    series(
        "both",
        r#"method="other",route="unmatched",status="404""#,
        1,
    );
    series(
        "an unknown model",
        r#"method="POST",route="/predict/{model}",status="404""#,
        1,
    );
    for stranger in ["nowhere", "wp-login", "rose", "\"99\"", "BREW", "PROPFIND"] {
        assert!(
            !page.text().contains(stranger),
            "{stranger} is in the metrics"
        );
    }
}

#[test]
fn a_models_state_is_one_series_a_state() {
    let loads = |how: &str| json!({ "inputs": [["x", "INT64", [null]]], "load": how });
    let server = moody()
        .model("bad/1", loads("fail"))
        .model("slow/3", loads("block"))
        .with("inference.threads", "2")
        .start_loading();
    server.gate.wait_for_blocked(1);
    let state = |model: &str, state: &str| {
        let labels = format!(
            r#"model="{model}",state="{state}",version="{}""#,
            if model == "slow" { 3 } else { 1 }
        );
        server.metric(&format!("onnxd_model_state{{{labels}}}"))
    };
    eventually("m is loaded", || state("m", "ready") == Some(1.0));
    let states = |model: &str| ["loading", "ready", "failed"].map(|name| state(model, name));
    assert_eq!(states("m"), [Some(0.0), Some(1.0), Some(0.0)]);
    assert_eq!(states("bad"), [Some(0.0), Some(0.0), Some(1.0)]);
    assert_eq!(states("slow"), [Some(1.0), Some(0.0), Some(0.0)]);
    let info = r#"onnxd_model_info{engine="script",model="m",platform="onnx_onnxv1",version="1"}"#;
    assert_eq!(server.metric(info), Some(1.0));
}

#[test]
fn a_models_queue_shows_what_it_holds_at_most() {
    let server = moody().file("m/model.toml", "queue_rows = 7").start();
    let capacity = r#"onnxd_queue_capacity_rows{model="m",version="1"}"#;
    assert_eq!(server.metric(capacity), Some(7.0));
}

#[test]
fn process_cpu_time_has_its_fraction() {
    let server = moody().start();
    let seconds = server
        .metric("process_cpu_seconds_total")
        .expect("it is there");
    assert!(seconds > 0.0 && seconds.fract() != 0.0, "{seconds}");
    let ratio = server.metric("onnxd_cpu_usage_ratio").expect("it is there");
    assert!(ratio.is_finite() && ratio >= 0.0, "{ratio}");
}
