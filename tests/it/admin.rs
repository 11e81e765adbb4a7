//! `server.admin_address`: what is served there, and what then is not served to the public.

use onnxd::grpc::inference::{RepositoryModelLoadRequest, RepositoryModelLoadResponse};
use serde_json::json;
use tonic::Code;

use crate::support::client::Request;
use crate::support::grpc::{Client, check_refused};
use crate::support::server::{Setup, TestServer};

fn two_doors() -> TestServer {
    Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]] }))
        .with("server.admin_address", "127.0.0.1:0")
        .with("repository.mode", "explicit")
        .start()
}

#[track_caller]
fn check(requests: &[Request], public: u16, admin: u16) {
    let server = two_doors();
    for request in requests {
        assert_eq!(server.ask(request).status, public, "public: {request:?}");
        assert_eq!(
            server.ask_admin(request).status,
            admin,
            "admin: {request:?}"
        );
    }
}

#[test]
fn health_and_what_the_server_is_are_told_at_both() {
    let paths = [
        "/health",
        "/health/ready",
        "/health/live",
        "/readyz",
        "/livez",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
    ];
    let mut requests: Vec<_> = paths.into_iter().map(Request::get).collect();
    requests.push(Request::post("/v2/repository/index", "{}"));
    check(&requests, 200, 200);
}

#[test]
fn metrics_and_control_are_at_the_admin_address_alone() {
    let control = |verb: &str| Request::post(&format!("/v2/repository/models/m/{verb}"), "{}");
    let requests = [Request::get("/metrics"), control("load"), control("unload")];
    check(&requests, 404, 200);
}

#[test]
fn the_admin_address_does_not_point_to_a_page_that_it_does_not_have() {
    let request = Request::get("/nowhere");
    let server = two_doors();
    let message = "unknown path '/nowhere'";
    server.ask_admin(&request).is_error(404, message);
    server
        .ask(&request)
        .is_error(404, &format!("{message}; /docs shows the routes"));
}

#[test]
fn models_are_not_at_the_admin_address() {
    let requests = [
        Request::post("/predict", r#"{"instances": [1]}"#),
        Request::get("/v2/models/m"),
        Request::get("/v2/models/m/config"),
        Request::get("/v2/models/stats"),
        Request::get("/"),
    ];
    check(&requests, 200, 404);
}

#[test]
fn without_it_everything_is_at_one_address() {
    let server = Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]] })).start();
    assert_eq!(server.admin, None);
    assert_eq!(server.get("/metrics").status, 200);
    assert_eq!(server.get("/v2/models/m").status, 200);
}

#[test]
fn it_ends_with_the_server() {
    let server = two_doors();
    server.stop(onnxd::shutdown::Stop::Terminate);
    server.wait_until_ended();
    let admin = server.admin.expect("the server has an admin address");
    assert!(std::net::TcpStream::connect(admin).is_err());
}

/// gRPC has one port, which is the public's.
#[test]
fn models_are_then_not_controlled_over_grpc() {
    let server = two_doors();
    let client = Client::of(&server);
    let request = RepositoryModelLoadRequest {
        model_name: "m".to_owned(),
        ..RepositoryModelLoadRequest::default()
    };
    check_refused(
        client.ask::<_, RepositoryModelLoadResponse>("RepositoryModelLoad", request),
        Code::PermissionDenied,
        "models are loaded and unloaded over HTTP on server.admin_address, and nowhere else",
    );
}
