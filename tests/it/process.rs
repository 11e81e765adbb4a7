//! The server as a process: it serves what it is told to, and signals end it as an orchestrator expects.

use std::time::Duration;

use onnxd::grpc::inference::ModelInferResponse;
use rustix::process::Signal;
use serde_json::json;

use crate::support::client::{Connection, Request};
use crate::support::grpc;
use crate::support::process::{Daemon, Onnxd};
use crate::support::{PATIENCE, eventually, in_repository};

fn onnxd(arguments: &[&str]) -> Onnxd {
    let models = in_repository("models").to_string_lossy().into_owned();
    Onnxd::new(arguments).with("ONNXD_REPOSITORY__PATH", &models)
}

fn ask(daemon: &Daemon, request: &Request) -> Option<u16> {
    let mut connection = Connection::open(daemon.address).ok()?;
    connection.send(request);
    Some(connection.answer().status)
}

fn wait_until_ready(daemon: &Daemon) {
    eventually("the server is ready", || {
        ask(daemon, &Request::get("/health/ready")) == Some(200)
    });
}

fn metrics(daemon: &Daemon) -> String {
    let mut connection = Connection::open(daemon.address).expect("the server accepts");
    connection.send(&Request::get("/metrics"));
    connection.answer().text().to_owned()
}

fn row() -> Request {
    Request::post("/predict", r#"{"instances": [[5.1,3.5,1.4,0.2]]}"#)
}

#[test]
fn sigterm_finishes_what_has_begun_and_exits_with_0() {
    let mut daemon = onnxd(&["serve"])
        .with("ONNXD_SERVER__DRAIN_DELAY_MS", "0")
        .serve();
    wait_until_ready(&daemon);
    let (start, end) = (r#"{"instances": [[5.1,3.5,"#, "1.4,0.2]]}");
    let length = start.len() + end.len();
    let head = format!("POST /predict HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n");
    let mut begun: Vec<_> = (0..4)
        .map(|_| Connection::open(daemon.address).expect("the server accepts"))
        .collect();
    for connection in &mut begun {
        connection.write(format!("{head}{start}").as_bytes());
    }
    // The request for the metrics is in flight as well.
    let all_begun = "onnxd_http_requests_in_flight 5";
    eventually("the requests have begun", || {
        metrics(&daemon).lines().any(|line| line == all_begun)
    });
    daemon.signal(Signal::TERM);
    eventually("the port is closed", || {
        Connection::open(daemon.address).is_err()
    });
    for connection in &mut begun {
        connection.write(end.as_bytes());
        assert_eq!(connection.answer().status, 200);
    }
    daemon.wait_for_line("stopped");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn bodies_that_memory_does_not_hold_are_refused_one_by_one() {
    let daemon = onnxd(&[]).serve();
    wait_until_ready(&daemon);
    daemon.limit_further_memory(300 << 20);
    let part = vec![b' '; 60 << 20];
    let head = format!(
        "POST /predict HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n",
        part.len() + 1
    );
    let mut begun = Vec::new();
    let refused = (0..40).find_map(|_| {
        let mut connection = Connection::open(daemon.address).expect("the server accepts");
        connection.write(head.as_bytes());
        // It is told in the middle.
        let is_sent = connection.try_write(&part).is_ok();
        let mut connection = connection.within(Duration::from_millis(100));
        if !is_sent || connection.has_more() {
            return Some(connection);
        }
        begun.push(connection);
        None
    });
    let answer = refused.expect("the memory has an end").answer();
    answer.is_error(503, "the server has no memory for the body now");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let first = begun.swap_remove(0);
    drop(begun);
    let mut first = first.within(PATIENCE);
    first.write(b" ");
    assert_eq!(first.answer().status, 400);
    assert_eq!(ask(&daemon, &row()), Some(200));
}

#[test]
fn sigint_does_not_wait_for_the_drain_delay() {
    let mut daemon = onnxd(&[])
        .with("ONNXD_SERVER__DRAIN_DELAY_MS", "86400000")
        .serve();
    wait_until_ready(&daemon);
    daemon.signal(Signal::INT);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_second_signal_exits_at_once() {
    for (second, code) in [(Signal::TERM, 128 + 15), (Signal::INT, 128 + 2)] {
        let mut daemon = onnxd(&["serve"])
            .with("ONNXD_SERVER__DRAIN_DELAY_MS", "86400000")
            .serve();
        wait_until_ready(&daemon);
        daemon.signal(Signal::TERM);
        eventually("the server drains", || {
            ask(&daemon, &Request::get("/health/ready")) == Some(503)
        });
        daemon.signal(second);
        assert_eq!(daemon.wait().code(), Some(code));
    }
}

#[test]
fn the_environment_of_the_reference_deployment_is_honoured() {
    let daemon = onnxd(&[])
        .with("MODEL_VERSION", "v1")
        .with("GCP_PROJECT", "demo")
        .serve();
    wait_until_ready(&daemon);
    let mut connection = Connection::open(daemon.address).expect("the server accepts");
    connection.send(&row());
    assert_eq!(connection.answer().ok()["model_version"], json!("1"));
}

#[test]
fn a_port_that_is_taken_fails_with_a_reason() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = taken.local_addr().expect("a bound socket has an address");
    let port = address.port().to_string();
    let finished = onnxd(&["serve", "--address", "127.0.0.1", "--port", &port]).run();
    assert_eq!(finished.code, Some(1));
    assert!(
        finished
            .stderr
            .starts_with(&format!("onnxd: cannot listen on {address}")),
        "{finished:?}"
    );
}

#[test]
fn every_request_is_one_line_of_the_log() {
    let daemon = onnxd(&[]).serve();
    wait_until_ready(&daemon);
    let ask_as = |request: Request, id: &str| ask(&daemon, &request.with("x-request-id", id));
    assert_eq!(ask_as(row(), "good"), Some(200));
    let line = daemon.wait_for_line("request");
    assert_eq!(line["level"], "INFO");
    let fields = [
        "request_id",
        "method",
        "path",
        "status",
        "model",
        "version",
        "rows",
    ]
    .map(|name| line[name].clone());
    let expected = [
        json!("good"),
        json!("POST"),
        json!("/predict"),
        json!(200),
        json!("iris"),
        json!("2"),
        json!(1),
    ];
    assert_eq!(fields, expected);
    for phase in ["queue_ms", "compute_ms", "total_ms"] {
        assert!(
            line[phase].as_f64().is_some_and(|time| time >= 0.0),
            "{phase}: {line}"
        );
    }
    assert_eq!(ask_as(Request::post("/predict", "{}"), "bad"), Some(400));
    let line = daemon.wait_for_line("request");
    assert_eq!(
        (&line["request_id"], &line["status"]),
        (&json!("bad"), &json!(400))
    );
    assert_eq!(
        line["reason"],
        "expected exactly one of 'instances' and 'inputs'"
    );
}

#[test]
fn every_call_is_one_line_of_the_log() {
    let daemon = onnxd(&[]).serve();
    wait_until_ready(&daemon);
    let client = grpc::Client::try_open(daemon.grpc_address).expect("the server accepts");
    let call = |model: &str| {
        let mut request = grpc::raw_request("FP32", 0, vec![0; 16]);
        request.model_name = model.to_owned();
        request.inputs[0].name = "features".to_owned();
        request.inputs[0].shape = vec![1, 4];
        let mut request = tonic::Request::new(request);
        let id = model.parse().expect("it is text");
        request.metadata_mut().insert("x-request-id", id);
        let answer = client.call::<_, ModelInferResponse>(&grpc::method("ModelInfer"), request);
        answer.is_ok()
    };
    let path = "/inference.GRPCInferenceService/ModelInfer";
    assert!(call("iris"));
    let line = daemon.wait_for_line("request");
    let fields = ["request_id", "path", "code", "model", "version", "rows"];
    assert_eq!(
        fields.map(|name| line[name].clone()),
        [
            json!("iris"),
            json!(path),
            json!("OK"),
            json!("iris"),
            json!("2"),
            json!(1)
        ]
    );
    assert!(!call("none"));
    let line = daemon.wait_for_line("request");
    let fields = ["request_id", "level", "code", "reason"];
    let reason = "unknown model 'none'; the models are 'digits', 'iris', 'wine'";
    assert_eq!(
        fields.map(|name| line[name].clone()),
        [
            json!("none"),
            json!("INFO"),
            json!("NOT_FOUND"),
            json!(reason)
        ]
    );
}
