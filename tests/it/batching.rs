//! Requests share runs: each gets its own answer whatever becomes of the others, and what the owner decides holds.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::{Answer, Connection, Request};
use crate::support::eventually;
use crate::support::samples::{moody, predict};
use crate::support::server::{Setup, TestServer};

const FAILED: &str =
    "the model failed while running; the server's log has the cause under this request id";
const OVERDUE: &str = "the request waited longer than the model's queue policy lets it";

/// [`moody`], with these lines in its `model.toml`.
fn moody_with(manifest: &str) -> Setup {
    moody().file("m/model.toml", manifest)
}

fn rows(elements: &[i64]) -> Request {
    Request::post("/predict/m", json!({ "instances": elements }).to_string())
}

fn with_priority(element: i64, priority: u64) -> Request {
    let x = json!({ "name": "x", "datatype": "INT64", "shape": [1], "data": [element] });
    let body = json!({ "inputs": [x], "parameters": { "priority": priority } });
    Request::post("/v2/models/m/infer", body.to_string())
}

fn of_model(server: &TestServer, name: &str) -> f64 {
    let series = format!(r#"{name}{{model="m",version="1"}}"#);
    server.metric(&series).unwrap_or_default()
}

fn dropped(server: &TestServer, reason: &str) -> f64 {
    let series = format!(r#"onnxd_queue_dropped_total{{model="m",reason="{reason}",version="1"}}"#);
    server.metric(&series).unwrap_or_default()
}

fn wait_for_queue(server: &TestServer, rows: f64) {
    eventually(&format!("{rows} rows wait"), || {
        of_model(server, "onnxd_queue_rows") == rows
    });
}

/// Lets the only worker be busy until the gate opens.
fn occupy(server: &TestServer) -> Connection {
    let running = server.send(&predict(1));
    server.gate.wait_for_blocked(1);
    running
}

/// Queues requests until one is refused; what was queued, and the refusal.
fn queue_until_refused(server: &TestServer) -> (Vec<Connection>, Answer) {
    let series = r#"onnxd_inference_requests_total{model="m",outcome="rejected",version="1"}"#;
    let rejected = || server.metric(series).unwrap_or_default();
    let (mut accepted, rejected_before) = (Vec::new(), rejected());
    let before = of_model(server, "onnxd_queue_rows");
    loop {
        let mut sent = server.send(&predict(4));
        let count = before + accepted.len() as f64 + 1.0;
        let is_refused = || rejected() > rejected_before;
        eventually("it is queued or refused", || {
            of_model(server, "onnxd_queue_rows") == count || is_refused()
        });
        match is_refused() {
            true => return (accepted, sent.answer()),
            false => accepted.push(sent),
        }
    }
}

/// Queues requests one after the other.
fn queue(server: &TestServer, requests: &[Request]) -> Vec<Connection> {
    let mut rows = of_model(server, "onnxd_queue_rows");
    let send = |request| {
        let sent = server.send(request);
        eventually("it is queued", || {
            of_model(server, "onnxd_queue_rows") > rows
        });
        rows = of_model(server, "onnxd_queue_rows");
        sent
    };
    requests.iter().map(send).collect()
}

#[track_caller]
fn answers(connection: &mut Connection, expected: &[i64]) {
    assert_eq!(connection.answer().ok()["predictions"], json!(expected));
}

#[test]
fn requests_that_wait_together_share_a_run_and_each_gets_its_own_rows() {
    let server = moody().start();
    let mut running = occupy(&server);
    let before = of_model(&server, "onnxd_inference_batches_total");
    let elements: [&[i64]; 4] = [&[4], &[5, 6, 7], &[8, 9], &[10]];
    let mut queued = queue(&server, &elements.map(rows));
    server.gate.open();
    answers(&mut running, &[1]);
    for (connection, expected) in queued.iter_mut().zip(elements) {
        answers(connection, expected);
    }
    let runs = of_model(&server, "onnxd_inference_batches_total") - before;
    assert_eq!(
        runs, 2.0,
        "the one that was running, and one for all others"
    );
    assert_eq!(of_model(&server, "onnxd_batch_rows_sum"), 8.0);
    assert_eq!(of_model(&server, "onnxd_queue_duration_seconds_count"), 5.0);
    let statistics = server.get("/v2/models/m/stats").ok();
    let model = &statistics["model_stats"][0];
    assert_eq!(model["inference_count"], 8);
    assert_eq!(model["execution_count"], 2);
    assert_eq!(model["inference_stats"]["success"]["count"], 5);
    let sizes = model["batch_stats"].as_array().expect("a list").iter();
    let sizes: Vec<_> = sizes.map(|batch| batch["batch_size"].clone()).collect();
    assert_eq!(sizes, [json!(1), json!(7)]);
}

#[test]
fn a_poisonous_row_fails_alone() {
    let server = moody().start();
    let mut running = occupy(&server);
    let mut queued = queue(&server, &[4, 3, 2, 5].map(predict));
    server.gate.open();
    answers(&mut running, &[1]);
    answers(&mut queued[0], &[4]);
    queued[1].answer().is_error(500, FAILED);
    queued[2].answer().is_error(500, FAILED);
    answers(&mut queued[3], &[5]);
}

#[test]
fn inputs_whose_first_dimensions_differ_share_their_run_with_nobody() {
    let inputs = json!([["a", "INT64", [null]], ["b", "INT64", [null]]]);
    let server = Setup::scripted(json!({ "inputs": inputs, "on": { "1": "block" } })).start();
    let request = |a: &[i64], b: &[i64]| {
        let input = |name, data: &[i64]| json!({ "name": name, "datatype": "INT64", "shape": [data.len()], "data": data });
        let body = json!({ "inputs": [input("a", a), input("b", b)] });
        Request::post("/v2/models/m/infer", body.to_string())
    };
    let mut running = server.send(&request(&[1], &[1]));
    server.gate.wait_for_blocked(1);
    let pairs: [(&[i64], &[i64]); 4] = [
        (&[4, 5], &[6]),
        (&[7], &[8]),
        (&[9], &[10, 11]),
        (&[12], &[13]),
    ];
    let requests = pairs.map(|(a, b)| request(a, b));
    let mut queued = queue(&server, &requests);
    server.gate.open();
    running.answer().ok();
    for (connection, (a, b)) in queued.iter_mut().zip(pairs) {
        let outputs = &connection.answer().ok()["outputs"];
        assert_eq!(outputs[0]["data"], json!(a));
        assert_eq!(outputs[1]["data"], json!(b));
    }
    let runs = of_model(&server, "onnxd_inference_batches_total");
    assert_eq!(runs, 4.0, "only the two in rows were joined");
}

/// What the check at load cannot see.
#[test]
fn an_output_that_loses_rows_keeps_its_requests_apart_for_ever() {
    let inputs = json!([["x", "INT64", [null]]]);
    let on = json!({ "1": "block", "8": "short" });
    let server = Setup::scripted(json!({ "inputs": inputs, "on": on })).start();
    let mut running = occupy(&server);
    let mut queued = queue(&server, &[4, 8, 5].map(predict));
    server.gate.open();
    answers(&mut running, &[1]);
    answers(&mut queued[0], &[4]);
    answers(&mut queued[1], &[]);
    answers(&mut queued[2], &[5]);
    let before = of_model(&server, "onnxd_inference_batches_total");
    server.gate.close();
    let mut running = occupy(&server);
    let mut queued = queue(&server, &[6, 7].map(predict));
    server.gate.open();
    answers(&mut running, &[1]);
    answers(&mut queued[0], &[6]);
    answers(&mut queued[1], &[7]);
    let runs = of_model(&server, "onnxd_inference_batches_total") - before;
    assert_eq!(runs, 3.0, "none was joined");
}

#[test]
fn a_request_larger_than_a_run_is_cut_and_joined_again() {
    let server = moody_with("max_batch_rows = 2")
        .with("inference.threads", "2")
        .start();
    let elements = [4, 5, 6, 7, 8];
    answers(&mut server.send(&rows(&elements)), &elements);
    assert_eq!(of_model(&server, "onnxd_inference_batches_total"), 3.0);
    assert_eq!(of_model(&server, "onnxd_inference_rows_total"), 5.0);
    assert_eq!(
        of_model(&server, "onnxd_queue_duration_seconds_count"),
        1.0,
        "one request"
    );
    server.ask(&rows(&[4, 5, 3, 7])).is_error(500, FAILED);
    assert_eq!(of_model(&server, "onnxd_queue_rows"), 0.0);
}

#[test]
fn pieces_queue_together_or_not_at_all() {
    let server = moody_with("max_batch_rows = 2")
        .with("inference.queue_rows", "5")
        .start();
    let mut running = occupy(&server);
    let mut waiting = queue(&server, &[predict(4)]);
    let message = "the model's queue is full: 1 of 5 rows are waiting; try again later";
    server.ask(&rows(&[5, 6, 7, 8, 9])).is_error(429, message);
    assert_eq!(of_model(&server, "onnxd_queue_rows"), 1.0);
    let message =
        "the request has 6 rows and the model's queue holds at most 5; send fewer at once";
    server.ask(&rows(&[5; 6])).is_error(413, message);
    server.gate.open();
    answers(&mut running, &[1]);
    answers(&mut waiting[0], &[4]);
}

/// The worker is busy all the while, so nothing but the client's going can have freed the place.
#[test]
fn what_is_abandoned_leaves_the_queue_at_once() {
    let server = moody_with("max_batch_rows = 2").start();
    let mut running = occupy(&server);
    let abandoned = queue(&server, &[predict(4), rows(&[5, 6, 7])]);
    assert_eq!(of_model(&server, "onnxd_queue_rows"), 4.0);
    assert_eq!(of_model(&server, "onnxd_queue_bytes"), 32.0);
    drop(abandoned);
    wait_for_queue(&server, 0.0);
    assert_eq!(of_model(&server, "onnxd_queue_bytes"), 0.0);
    assert_eq!(dropped(&server, "abandoned"), 3.0, "one and two pieces");
    server.gate.open();
    answers(&mut running, &[1]);
    assert_eq!(server.gate.ran(), [1]);
}

#[test]
fn what_has_expired_leaves_the_queue_at_once() {
    let server = moody().start();
    let mut running = occupy(&server);
    let answer = server.ask(&predict(4).with("x-request-timeout-ms", "20"));
    answer.is_error(504, "the deadline passed before the model answered");
    assert_eq!(of_model(&server, "onnxd_queue_rows"), 0.0);
    assert_eq!(dropped(&server, "expired"), 1.0);
    server.gate.open();
    answers(&mut running, &[1]);
}

#[test]
fn the_queue_is_bounded_in_bytes() {
    let server = moody().with("inference.queue_bytes", "24").start();
    let mut running = occupy(&server);
    let mut waiting = queue(&server, &[rows(&[4, 5])]);
    let message = "the model's queue is full: 16 of 24 bytes are waiting; try again later";
    server.ask(&rows(&[6, 7])).is_error(429, message);
    let message = "the request's inputs have more bytes than the model's queue holds, which is 24; send fewer rows at once";
    server.ask(&rows(&[6, 7, 8, 9])).is_error(413, message);
    server.gate.open();
    answers(&mut running, &[1]);
    answers(&mut waiting[0], &[4, 5]);
}

#[test]
fn a_higher_level_of_priority_goes_first() {
    let server = moody_with("priority_levels = 3\nmax_batch_rows = 1").start();
    let mut running = occupy(&server);
    let order = [(5, 3), (6, 3), (7, 0), (8, 2), (9, 1), (10, 0), (11, 1)];
    let requests = order.map(|(element, priority)| with_priority(element, priority));
    let mut queued = queue(&server, &requests);
    server.gate.open();
    answers(&mut running, &[1]);
    queued
        .iter_mut()
        .for_each(|connection| drop(connection.answer().ok()));
    // What names none is in the middle; `schedule.rs` has what names another than there are.
    assert_eq!(server.gate.ran(), [1, 9, 11, 7, 8, 10, 5, 6]);
}

#[test]
fn a_queue_policy_refuses_what_waits_too_long() {
    let policy = "queue_policy = { timeout_action = \"reject\", default_timeout_us = 20000, max_queue_rows = 2 }";
    let server = moody_with(policy).start();
    let mut running = occupy(&server);
    server.ask(&predict(4)).is_error(504, OVERDUE);
    assert_eq!(of_model(&server, "onnxd_queue_rows"), 0.0);
    server.ask(&rows(&[4, 5, 6])).is_error(
        413,
        "the request has 3 rows and the model's queue holds at most 2; send fewer at once",
    );
    server.gate.open();
    // It was taken before the time was over.
    answers(&mut running, &[1]);
}

#[test]
fn a_queue_policy_lets_others_go_before_what_has_waited_long() {
    let policy = "queue_policy = { timeout_action = \"delay\", default_timeout_us = 1000000 }";
    let server = moody_with(&format!("max_batch_rows = 1\n{policy}")).start();
    let mut running = occupy(&server);
    let mut queued = queue(&server, &[predict(5)]);
    let since = Instant::now();
    eventually("its time is over", || {
        since.elapsed() > Duration::from_secs(1)
    });
    queued.extend(queue(&server, &[predict(6)]));
    server.gate.open();
    answers(&mut running, &[1]);
    answers(&mut queued[0], &[5]);
    answers(&mut queued[1], &[6]);
    assert_eq!(server.gate.ran(), [1, 6, 5]);
}

#[test]
fn what_would_wait_beyond_the_latency_target_is_refused() {
    let inputs = json!([["x", "INT64", [null]]]);
    let script = json!({ "inputs": inputs, "on": { "1": "block" }, "takes_ms": 30 });
    let server = Setup::scripted(script)
        .file(
            "m/model.toml",
            "max_batch_rows = 1\nlatency_target_ms = 100",
        )
        .start();
    let mut running = occupy(&server);
    let (mut accepted, refused) = queue_until_refused(&server);
    // One runs for 30 ms, and each that waits takes as long.
    assert!((1..=3).contains(&accepted.len()), "{}", accepted.len());
    assert_eq!(refused.status, 429);
    assert!(
        refused
            .text()
            .contains("too much for its latency target of 100 ms")
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    server.gate.open();
    answers(&mut running, &[1]);
    accepted.iter_mut().for_each(|sent| answers(sent, &[4]));
}

#[test]
fn a_queue_that_stands_is_kept_short() {
    let inputs = json!([["x", "INT64", [null]]]);
    let script = json!({ "inputs": inputs, "on": { "1": "block" }, "takes_ms": 1 });
    let server = Setup::scripted(script)
        .file(
            "m/model.toml",
            "max_batch_rows = 1\nlatency_target_ms = 400",
        )
        .start();
    let mut running = occupy(&server);
    let mut first = queue(&server, &[predict(4)]);
    let since = Instant::now();
    eventually("it stands", || since.elapsed() > Duration::from_millis(500));
    let (mut accepted, refused) = queue_until_refused(&server);
    // A millisecond each, and a little more: of a quarter of the target, and not of all of it.
    let count = accepted.len();
    assert!((20..=110).contains(&count), "{count}");
    assert_eq!(refused.status, 429);
    assert!(
        refused
            .text()
            .contains("too much for its latency target of 400 ms")
    );
    server.gate.open();
    answers(&mut running, &[1]);
    answers(&mut first[0], &[4]);
    accepted.iter_mut().for_each(|sent| answers(sent, &[4]));
}

#[test]
fn a_delay_lets_a_run_fill_up_and_no_longer() {
    let delayed = "preferred_batch_rows = [2]\nmax_queue_delay_us = 20000000";
    let server = moody_with(delayed).start();
    let mut first = queue(&server, &[predict(4)]);
    let mut second = server.send(&predict(5));
    answers(&mut first[0], &[4]);
    answers(&mut second, &[5]);
    assert_eq!(of_model(&server, "onnxd_inference_batches_total"), 1.0);
    let late = moody_with("max_queue_delay_us = 1000").start();
    answers(&mut late.send(&predict(4)), &[4]);
}

#[test]
fn short_runs_count_like_all_others_wherever_they_run() {
    let server = moody().start();
    for element in 100..200 {
        answers(&mut server.send(&predict(element)), &[element]);
    }
    for name in [
        "onnxd_inference_batches_total",
        "onnxd_inference_rows_total",
        "onnxd_queue_duration_seconds_count",
        "onnxd_compute_duration_seconds_count",
        "onnxd_batch_rows_count",
    ] {
        assert_eq!(of_model(&server, name), 100.0, "{name}");
    }
    assert_eq!(server.gate.ran(), (100..200).collect::<Vec<_>>());
}

#[test]
fn the_owner_decides_how_many_workers_there_are() {
    let server = moody_with("instances = 3").start();
    let blocked = [0; 3].map(|_| server.send(&predict(1)));
    // Three workers wait for the one thread that may compute, so one of them runs.
    server.gate.wait_for_blocked(1);
    let config = server.get("/v2/models/m/config").ok();
    assert_eq!(config["instance_group"][0]["count"], 3);
    server.gate.open();
    for mut connection in blocked {
        assert_eq!(connection.answer().ok()["predictions"], json!([1]));
    }
}

#[test]
fn a_decision_that_makes_no_sense_is_an_error_of_the_model() {
    let check = |manifest: &str, expected: &str| {
        let server = moody_with(manifest).start_loaded();
        let health = server.get("/health");
        assert!(health.text().contains(expected), "{}", health.text());
    };
    check(
        "max_batch_rows = 4\npreferred_batch_rows = [2, 8]",
        "preferred_batch_rows: 8 is more than max_batch_rows = 4",
    );
    check(
        "default_priority_level = 1",
        "default_priority_level: priority_levels is not set, got 1",
    );
    check(
        "priority_levels = 2\npriority_queue_policy = { 3 = {} }",
        "priority_queue_policy: expected a level from 1 to 2, got '3'",
    );
}

#[test]
fn rows_without_elements_cost_no_more_than_others() {
    let server = Setup::scripted(json!({ "inputs": [["x", "INT64", [-1, -1]]] })).start();
    let ask = |rows: u64| {
        let x = json!({ "name": "x", "datatype": "INT64", "shape": [rows, 0], "data": [] });
        let body = json!({ "inputs": [x] });
        server.ask(&Request::post("/v2/models/m/infer", body.to_string()))
    };
    assert_eq!(ask(3).status, 200);
    for rows in [5_000, 1 << 40, 1 << 62] {
        let refused = ask(rows);
        assert_eq!(refused.status, 413, "{}", refused.text());
        assert!(refused.text().contains("holds at most 1024"));
    }
}
