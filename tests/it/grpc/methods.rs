//! The methods that are served are those that are described, and each is counted by its name.

use std::collections::BTreeSet;

use onnxd::grpc::DESCRIPTORS;
use onnxd::grpc::methods::{Kind, METHODS};
use protox::prost_reflect::DescriptorPool;
use serde_json::json;
use tonic::{Code, Request};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::{v1, v1alpha};

use crate::support::grpc::{Client, check_refused, method};
use crate::support::server::Setup;

#[test]
fn every_method_is_in_the_table() {
    let mut described = BTreeSet::new();
    for descriptors in [
        DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        v1::FILE_DESCRIPTOR_SET,
        v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        let pool = DescriptorPool::decode(descriptors).expect("they were generated");
        for method in pool
            .services()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
        {
            let service = method.parent_service().full_name().to_owned();
            let name = format!("{service}/{}", method.name());
            described.insert((name, method.is_server_streaming()));
        }
    }
    let table = METHODS.map(|method| (method.name.to_owned(), method.kind == Kind::Stream));
    assert_eq!(BTreeSet::from(table), described);
}

#[test]
fn reflection_tells_the_services_in_both_versions() {
    let server = Setup::scripted(json!({ "inputs": [] })).start();
    let client = Client::of(&server);
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let mut asked =
        client.stream::<v1::ServerReflectionRequest, v1::ServerReflectionResponse>(path);
    asked.send(v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    });
    let answer = asked.next().expect("it is known").expect("it is known");
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("expected the services, got {answer:?}");
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    for name in ["inference.GRPCInferenceService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|listed| listed == name), "{names:?}");
    }
    let path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
    let mut asked =
        client.stream::<v1alpha::ServerReflectionRequest, v1alpha::ServerReflectionResponse>(path);
    let symbol = "inference.GRPCInferenceService".to_owned();
    asked.send(v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(symbol),
        ),
    });
    let answer = asked.next().expect("it is known").expect("it is known");
    use v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse;
    assert!(
        matches!(answer.message_response, Some(FileDescriptorResponse(_))),
        "{answer:?}"
    );
}

#[test]
fn an_unknown_method_is_unimplemented_and_mints_no_series() {
    let server = Setup::scripted(json!({ "inputs": [] })).start();
    let client = Client::of(&server);
    let unknown = [method("ModelForget"), "/some.Service/Method".to_owned()];
    for path in &unknown {
        let answer = client.call::<(), ()>(path, Request::new(()));
        let message = format!(
            "there is no method '{path}'; the services are inference.GRPCInferenceService, grpc.health.v1.Health and reflection, which tells their methods"
        );
        check_refused(answer, Code::Unimplemented, &message);
    }
    let series = r#"onnxd_grpc_requests_total{code="UNIMPLEMENTED",method="unknown"}"#;
    assert_eq!(server.metric(series), Some(unknown.len() as f64));
}
