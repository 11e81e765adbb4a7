//! The `schedule_policy` extension: a request's `priority` and `timeout`, on every wire that has parameters.

use onnxd::grpc::inference::infer_parameter::ParameterChoice;
use onnxd::grpc::inference::{ModelInferRequest, ModelStreamInferResponse};
use serde_json::{Value, json};
use tonic::Code;

use crate::support::client::Request;
use crate::support::eventually;
use crate::support::grpc::{Client, check_refused, method, numbers, parameter};
use crate::support::server::{Setup, TestServer, bundled};

/// One model `m` that runs one row at a time, and holds the first up.
fn start(owner: &str) -> TestServer {
    let script = json!({ "inputs": [["x", "INT64", [null]]], "on": { "1": "block" } });
    Setup::scripted(script)
        .file("m/model.toml", format!("max_batch_rows = 1\n{owner}"))
        .start()
}

/// The same request in every style of JSON.
fn in_every_style(element: i64, parameters: &Value) -> [Request; 4] {
    let tensor = json!({ "name": "x", "datatype": "INT64", "shape": [1], "data": [element] });
    let protocol = json!({ "inputs": [tensor], "parameters": parameters }).to_string();
    let rows = json!({ "instances": [element], "parameters": parameters }).to_string();
    let columns = json!({ "inputs": { "x": [element] }, "parameters": parameters }).to_string();
    [
        Request::post("/v2/models/m/infer", protocol),
        Request::post("/predict/m", rows.clone()),
        Request::post("/predict/m", columns),
        Request::post("/v1/models/m:predict", rows),
    ]
}

fn with_parameter(element: i64, name: &str, value: ParameterChoice) -> ModelInferRequest {
    ModelInferRequest {
        parameters: [(name.to_owned(), parameter(value))].into(),
        ..numbers(&[element])
    }
}

/// Waits until so many rows wait.
fn wait_for_queue(server: &TestServer, rows: usize) {
    let series = r#"onnxd_queue_rows{model="m",version="1"}"#;
    eventually(&format!("{rows} rows wait"), || {
        server.metric(series) == Some(rows as f64)
    });
}

const LEVELS: &str = "priority_levels = 3\n";

#[test]
fn it_is_listed() {
    let server = bundled().get("/v2").ok();
    let extensions = server["extensions"].as_array().expect("a list");
    assert!(extensions.contains(&json!("schedule_policy")), "{server}");
}

#[test]
fn urgent_requests_go_first_on_every_wire() {
    let server = start(LEVELS);
    let _running = server.send(&in_every_style(1, &json!({}))[0]);
    server.gate.wait_for_blocked(1);
    let mut waiting = Vec::new();
    // Those that name none have the level in the middle; they are sent first.
    for (at, priority) in [0, 1].into_iter().enumerate() {
        for wire in 0..4 {
            let element = 100 * (at as i64 + 1) + wire as i64;
            let request = &in_every_style(element, &json!({ "priority": priority }))[wire];
            waiting.push(server.send(request));
            wait_for_queue(&server, waiting.len());
        }
    }
    let client = Client::of(&server);
    let values = [
        ParameterChoice::Int64Param(1),
        ParameterChoice::Uint64Param(1),
    ];
    let mut stream = client.stream(&method("ModelStreamInfer"));
    for (at, value) in values.into_iter().enumerate() {
        stream.send(with_parameter(204 + at as i64, "priority", value));
        wait_for_queue(&server, waiting.len() + at + 1);
    }
    server.gate.open();
    for connection in &mut waiting {
        assert_eq!(connection.answer().status, 200);
    }
    for _ in 0..2 {
        let answer: ModelStreamInferResponse =
            stream.next().expect("an answer").expect("an answer");
        assert_eq!(answer.error_message, "");
    }
    let urgent = [1, 200, 201, 202, 203, 204, 205];
    assert_eq!(
        server.gate.ran(),
        [&urgent[..], &[100, 101, 102, 103]].concat()
    );
}

#[test]
fn a_level_that_the_model_does_not_have_is_refused_on_every_wire() {
    let server = start(LEVELS);
    let message = |priority: u64| {
        format!(
            "parameter 'priority': expected a level from 1, which goes first, to 3, or 0 for the model's default, got {priority}"
        )
    };
    for request in in_every_style(7, &json!({ "priority": 4 })) {
        server.ask(&request).is_error(400, &message(4));
    }
    let client = Client::of(&server);
    for value in [
        ParameterChoice::Int64Param(4),
        ParameterChoice::Uint64Param(4),
    ] {
        let answer = client.infer(with_parameter(7, "priority", value));
        check_refused(answer, Code::InvalidArgument, &message(4));
    }
    let mut stream = client.stream(&method("ModelStreamInfer"));
    stream.send(with_parameter(
        7,
        "priority",
        ParameterChoice::Int64Param(9),
    ));
    let answer: ModelStreamInferResponse = stream.next().expect("an answer").expect("an answer");
    assert_eq!(answer.error_message, message(9));
    for priority in [0, 1, 3] {
        for request in in_every_style(7, &json!({ "priority": priority })) {
            assert_eq!(server.ask(&request).status, 200, "{priority}");
        }
    }
}

#[test]
fn without_levels_a_priority_has_no_effect() {
    let server = start("");
    for request in in_every_style(7, &json!({ "priority": 4 })) {
        assert_eq!(server.ask(&request).status, 200);
    }
    let answer = Client::of(&server).infer(with_parameter(
        7,
        "priority",
        ParameterChoice::Int64Param(4),
    ));
    assert!(answer.is_ok());
}

#[test]
fn the_owner_may_overrule_timeouts() {
    let policy = |overrides| {
        format!(
            "[queue_policy]\ndefault_timeout_us = 30000000\nallow_timeout_override = {overrides}\n"
        )
    };
    let soon = json!({ "timeout": 1000 });
    for (owner, status) in [
        (String::new(), 504),
        (policy(true), 504),
        (policy(false), 200),
    ] {
        let server = start(&owner);
        let _running = server.send(&in_every_style(1, &json!({}))[0]);
        server.gate.wait_for_blocked(1);
        let mut late = server.send(&in_every_style(7, &soon)[0]);
        let seen = if status == 504 {
            late.answer().status
        } else {
            wait_for_queue(&server, 1);
            // Its own time passes while it waits.
            let soon = in_every_style(8, &soon)[0]
                .clone()
                .with("x-request-timeout-ms", "20");
            assert_eq!(server.ask(&soon).status, 504, "a header is no parameter");
            server.gate.open();
            late.answer().status
        };
        assert_eq!(seen, status, "{owner}");
    }
}
