//! Names for versions, which work wherever a version's number does.

use onnxd::grpc::inference::{ModelInferRequest, ModelMetadataRequest, ModelMetadataResponse};
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::grpc::{Client, numbers};
use crate::support::samples::{bad, good};
use crate::support::server::{Setup, TestServer};

const BODY: &str = r#"{"instances": [1]}"#;
const LABELS: &str = "version_labels = { stable = \"1\", canary = \"2\" }";

fn versions(manifest: &str) -> Setup {
    Setup::empty()
        .model("m/1", good())
        .model("m/2", good())
        .model("m/3", good())
        .file("m/model.toml", manifest)
}

#[track_caller]
fn check(server: &TestServer, path: &str, version: &str) {
    let answer = server.post(path, BODY).ok();
    assert_eq!(answer["model_version"], version, "{path}");
}

fn load_of(server: &TestServer, version: &str) -> Option<f64> {
    let labels = format!("{{model=\"m\",version=\"{version}\"}}");
    server.metric(&format!("onnxd_model_load_duration_seconds{labels}"))
}

#[test]
fn a_label_works_wherever_a_version_does() {
    let server = versions(LABELS).start();
    check(&server, "/predict/m", "3");
    check(&server, "/predict/m/stable", "1");
    check(&server, "/predict/m/canary", "2");
    let v2 = r#"{"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}]}"#;
    let answer = server.post("/v2/models/m/versions/stable/infer", v2).ok();
    assert_eq!(answer["model_version"], "1");
    for path in ["", "/ready", "/config", "/stats"] {
        server
            .get(&format!("/v2/models/m/versions/canary{path}"))
            .ok();
    }
    for path in ["versions/stable", "labels/stable"] {
        let answer = server.post(&format!("/v1/models/m/{path}:predict"), BODY);
        assert_eq!(answer.ok()["predictions"], json!([1]), "{path}");
    }
    let status = server.get("/v1/models/m/labels/canary").ok();
    assert_eq!(status["model_version_status"][0]["version"], "2");
    assert_eq!(status["model_version_status"][1], Value::Null);
    let metadata = server.get("/v1/models/m/labels/canary/metadata").ok();
    assert_eq!(metadata["model_spec"]["version"], "2");
    assert_eq!(
        server.get("/v2/models/m").ok()["versions"],
        json!(["1", "2", "3"])
    );
}

#[test]
fn a_label_works_over_grpc() {
    let server = versions(LABELS).start();
    let client = Client::of(&server);
    let request = ModelMetadataRequest {
        name: "m".to_owned(),
        version: "stable".to_owned(),
    };
    let metadata: ModelMetadataResponse = client
        .ask("ModelMetadata", request)
        .expect("the label is known");
    assert_eq!(metadata.versions, ["1", "2", "3"]);
    let request = |label: &str| ModelInferRequest {
        model_version: label.to_owned(),
        ..numbers(&[7])
    };
    let answer = client.infer(request("canary")).expect("it is served");
    assert_eq!(answer.model_version, "2");
    let unknown = client.infer(request("best")).expect_err("no such label");
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

#[test]
fn labels_are_listed_where_people_look() {
    let server = versions(LABELS).start();
    let health = server.get("/health").ok();
    let labels = health["models"].as_array().expect("a list").iter();
    let labels: Vec<_> = labels.map(|model| model["labels"].clone()).collect();
    assert_eq!(labels, [json!(["stable"]), json!(["canary"]), Value::Null]);
    let config = server.get("/v2/models/m/config").ok();
    let told = &config["parameters"]["version_labels"]["string_value"];
    assert_eq!(told, "canary=2, stable=1");
    let message = "model 'm' has no version 'best'; the versions served are '3', '2', '1'; the labels are 'canary' (2), 'stable' (1)";
    server.post("/predict/m/best", BODY).is_error(404, message);
    let answer = server.get("/v1/models/m/labels/best");
    assert_eq!(answer.status, 404);
    assert!(
        answer
            .error()
            .ends_with("the labels are 'canary', 'stable'"),
        "{}",
        answer.text()
    );
    let answer = server.get("/v1/models/m/labels/2");
    assert_eq!(answer.status, 404, "a number is no label");
}

#[test]
fn a_label_may_be_the_default_and_what_has_a_label_alone_is_not() {
    let server = versions(&format!("{LABELS}\ndefault_version = \"stable\"")).start();
    check(&server, "/predict/m", "1");
    check(&server, "/predict/m/3", "3");
    let pinned = "versions = { pinned = [1] }\nversion_labels = { canary = 2 }";
    let server = versions(pinned).start();
    check(&server, "/predict/m", "1");
    check(&server, "/predict/m/canary", "2");
    let message = "model 'm' has no version '3'; the versions served are '2', '1'; the labels are 'canary' (2)";
    server.post("/predict/m/3", BODY).is_error(404, message);
}

#[test]
fn a_label_without_its_version_harms_nothing_else() {
    let labels =
        "version_labels = { stable = 1, canary = 2, lost = 9 }\nversions = { pinned = [3] }";
    let server = versions(labels).model("m/2", bad()).start();
    check(&server, "/predict/m", "3");
    check(&server, "/predict/m/stable", "1");
    let message = "model 'm' is not served: the graph has a cycle";
    server
        .post("/predict/m/canary", BODY)
        .is_error(503, message);
    let message = "model 'm' is not served: it is asked for (by the label 'lost' in model.toml) and the repository has 1, 2, 3";
    server.post("/predict/m/lost", BODY).is_error(503, message);
    assert_eq!(server.get("/health/ready").status, 200);
}

#[test]
fn mistakes_with_labels_are_told() {
    for (manifest, told) in [
        (
            "version_labels = { v2 = 2 }",
            "looks like no version, got \"v2\"",
        ),
        (
            "version_labels = { stable = \"new\" }",
            "expected a version such as \"2\", got \"new\"",
        ),
        (
            "default_version = \"stable\"",
            "got \"stable\"; there are no version_labels",
        ),
    ] {
        let server = versions(manifest).start_loaded();
        let answer = server.post("/predict/m", BODY);
        assert_eq!(answer.status, 503);
        assert!(answer.error().contains(told), "{}", answer.text());
    }
}

/// Blue and green: both are loaded, and moving the label moves the traffic.
#[test]
fn a_label_is_moved_without_loading_anything() {
    let manifest = |stable: u8| {
        format!(
            "versions = \"all\"\nversion_labels = {{ stable = {stable} }}\ndefault_version = \"stable\""
        )
    };
    let server = versions(&manifest(1)).start();
    let loads = || ["1", "2", "3"].map(|version| load_of(&server, version));
    let before = loads();
    for stable in [3, 2, 1] {
        server.put("m/model.toml", &manifest(stable));
        let expected = stable.to_string();
        eventually("the label has moved", || {
            let answer = server.post("/predict/m/stable", BODY).ok();
            answer["model_version"] == expected.as_str()
        });
        check(&server, "/predict/m", &expected);
    }
    assert_eq!(loads(), before, "each was loaded once");
}

#[test]
fn a_label_stays_where_it_is_until_its_new_version_serves() {
    let pinned = "versions = { pinned = [3] }\n";
    let server = versions(&format!("{pinned}version_labels = {{ stable = 1 }}"))
        .model("m/2", bad())
        .start();
    server.put(
        "m/model.toml",
        &format!("{pinned}version_labels = {{ stable = 2 }}"),
    );
    eventually("the new one has failed", || {
        server
            .get("/health")
            .text()
            .contains("the graph has a cycle")
    });
    check(&server, "/predict/m/stable", "1");
    server.put_model("m/2", &good());
    eventually("the new one serves", || {
        let answer = server.post("/predict/m/stable", BODY).ok();
        answer["model_version"] == "2"
    });
    eventually("the old one is gone", || {
        server.get("/v2/models/m").ok()["versions"] == json!(["2", "3"])
    });
}

#[test]
fn orders_heed_labels() {
    let server = versions("").with("repository.mode", "explicit").start();
    assert_eq!(server.post("/predict/m/stable", BODY).status, 404);
    server.put("m/model.toml", LABELS);
    server.post("/v2/repository/models/m/load", "{}").ok();
    check(&server, "/predict/m/stable", "1");
    check(&server, "/predict/m", "3");
}

#[test]
fn no_label_becomes_a_series() {
    let server = versions(LABELS).start();
    for path in [
        "/predict/m/stable",
        "/predict/m/nonsense",
        "/v1/models/m/labels/odd:predict",
    ] {
        server.post(path, BODY);
    }
    let page = server.get("/metrics");
    for name in ["stable", "canary", "nonsense", "odd"] {
        assert!(!page.text().contains(name), "{name}");
    }
}
