//! `grpc.health.v1`, which Kubernetes and balancers ask, and reflection.

use onnxd::shutdown::Stop;
use serde_json::json;
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::support::eventually;
use crate::support::grpc::{Client, Stream, check_refused};
use crate::support::server::Setup;

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[track_caller]
fn check(client: &Client, service: &str, expected: ServingStatus) {
    let answer = client.call::<_, HealthCheckResponse>(CHECK, Request::new(about(service)));
    let answer = answer.expect("it is known").into_inner();
    assert_eq!(answer.status(), expected, "{service}");
}

fn watch<'c>(
    client: &'c Client,
    service: &str,
) -> Stream<'c, HealthCheckRequest, HealthCheckResponse> {
    client.watch(WATCH, about(service))
}

#[track_caller]
fn next(watched: &mut Stream<'_, HealthCheckRequest, HealthCheckResponse>) -> ServingStatus {
    let answer = watched.next().expect("the watch goes on");
    answer.expect("the watch goes on").status()
}

#[test]
fn the_server_and_each_model_are_known_by_name() {
    let server = Setup::scripted(json!({ "inputs": [] }))
        .model("broken/1", json!({ "load": "fail" }))
        .start_loaded();
    let client = Client::of(&server);
    // A model that does not load keeps the server from being ready.
    for service in ["", "inference.GRPCInferenceService", "broken"] {
        check(&client, service, ServingStatus::NotServing);
    }
    check(&client, "m", ServingStatus::Serving);
    check_refused(
        client.call::<_, HealthCheckResponse>(CHECK, Request::new(about("n"))),
        Code::NotFound,
        "unknown service 'n'; expected '', 'inference.GRPCInferenceService' or a model's name",
    );
}

#[test]
fn a_watch_tells_every_change_and_ends_when_the_port_closes() {
    let server = Setup::scripted(json!({ "inputs": [], "load": "block" }))
        .with("server.drain_delay_ms", "300")
        .start_loading();
    let client = Client::of(&server);
    server.gate.wait_for_blocked(1);
    let mut overall = watch(&client, "");
    let mut model = watch(&client, "m");
    let mut unknown = watch(&client, "n");
    assert_eq!(next(&mut unknown), ServingStatus::ServiceUnknown);
    for watched in [&mut overall, &mut model] {
        assert_eq!(next(watched), ServingStatus::NotServing);
    }
    server.gate.open();
    for watched in [&mut overall, &mut model] {
        assert_eq!(next(watched), ServingStatus::Serving);
    }
    server.stop(Stop::Terminate);
    for watched in [&mut overall, &mut model] {
        assert_eq!(next(watched), ServingStatus::NotServing);
    }
    for watched in [&mut overall, &mut model, &mut unknown] {
        check_refused(
            watched.next(),
            Code::Unavailable,
            "the server is shutting down",
        );
    }
    server.wait_until_ended();
}

#[test]
fn a_watch_that_is_dropped_is_over() {
    let server = Setup::scripted(json!({ "inputs": [] })).start();
    let client = Client::of(&server);
    let mut watched = watch(&client, "");
    assert_eq!(next(&mut watched), ServingStatus::Serving);
    let in_flight = "onnxd_grpc_requests_in_flight";
    assert_eq!(server.metric(in_flight), Some(1.0));
    drop(watched);
    eventually("it is over", || server.metric(in_flight) == Some(0.0));
}
