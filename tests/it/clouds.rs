//! What the platforms of Amazon and Google ask of a container.

use expect_test::{Expect, expect};

use crate::support::client::Request;
use crate::support::samples::{moody, samples};
use crate::support::server::{Setup, TestServer, bundled};

const ROW: &str = r#"{"instances": [[5.1,3.5,1.4,0.2]]}"#;
const TRITON: &str = "application/vnd.sagemaker-triton.binary+json;json-header-size=";

#[track_caller]
fn invoke(kind: &str, body: &str, expected: Expect) {
    let request = Request::post("/invocations", body).with("content-type", kind);
    let answer = rows().ask(&request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    expected.assert_eq(answer.text());
}

/// The echoing model `rows` alone, which is the default then.
fn rows() -> TestServer {
    let script = serde_json::json!({ "inputs": [["x", "FP32", [null, 2]]] });
    Setup::scripted(script).start()
}

#[test]
fn sagemaker_invokes_the_default_model_in_every_style() {
    let predicted = bundled().post("/predict", ROW).ok();
    assert_eq!(bundled().post("/invocations", ROW).ok(), predicted);
    for body in [
        r#"{"inputs": [[1,2]]}"#,
        r#"{"inputs": [{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#,
    ] {
        assert_eq!(rows().post("/invocations", body).status, 200, "{body}");
    }
}

#[test]
fn sagemaker_sends_rows_as_csv() {
    invoke(
        "text/csv",
        "1,2.5\n-3e1,.5\n",
        expect![[
            r#"{"model_name":"m","model_version":"1","predictions":[[1.0,2.5],[-30.0,0.5]]}"#
        ]],
    );
    invoke(
        "Text/CSV; charset=utf-8",
        "1,2",
        expect![[r#"{"model_name":"m","model_version":"1","predictions":[[1.0,2.0]]}"#]],
    );
    let server = rows();
    for (csv, message) in [
        ("", "'instances' is empty; expected at least one row"),
        (
            "a,b\n1,2",
            "text/csv: expected numbers separated by commas and no header, got 'a' in row 0, column 0",
        ),
        ("1,2,3", "input 'x': expected shape [-1,2], got [1,3]"),
    ] {
        let request = Request::post("/invocations", csv).with("content-type", "text/csv");
        server.ask(&request).is_error(400, message);
    }
}

#[test]
fn sagemaker_spells_the_binary_extension_in_the_content_type() {
    let json = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}],"outputs":[{"name":"x_out","parameters":{"binary_data":true}}]}"#;
    let tensor: Vec<u8> = [1.5f32, 2.5].iter().flat_map(|x| x.to_le_bytes()).collect();
    let body = [json.as_bytes(), &tensor].concat();
    let server = rows();
    let send = |kind: &str| {
        let request = Request::post("/invocations", body.clone());
        server.ask(&request.with("content-type", kind))
    };
    let answer = send(&format!("{TRITON}{}", json.len()));
    assert_eq!(
        answer.status,
        200,
        "{}",
        String::from_utf8_lossy(&answer.body)
    );
    assert_eq!(answer.header("inference-header-content-length"), None);
    let kind = answer.header("content-type").expect("it has a type");
    let length: usize = kind.strip_prefix(TRITON).expect(kind).parse().expect(kind);
    assert_eq!(answer.body[length..], tensor);
    for (length, message) in [
        (
            "many".to_owned(),
            "header Inference-Header-Content-Length: expected a whole number of bytes, got 'many'"
                .to_owned(),
        ),
        (
            "9999".to_owned(),
            format!(
                "header Inference-Header-Content-Length: expected at most {}, the length of the body, got 9999",
                body.len()
            ),
        ),
    ] {
        send(&format!("{TRITON}{length}")).is_error(400, &message);
    }
}

#[test]
fn sagemaker_reads_raw_tensors_as_they_are() {
    let json = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1000,2],"parameters":{"binary_data_size":8000}}],"parameters":{"binary_data_output":true}}"#;
    let body = [json.as_bytes(), &[0; 8000]].concat();
    let request = Request::post("/invocations", body)
        .with("content-type", &format!("{TRITON}{}", json.len()))
        .with("accept-encoding", "gzip");
    let answer = rows().ask(&request);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-encoding"), None);
}

#[test]
fn csv_has_no_json_before_it() {
    let request = Request::post("/invocations", "1,2")
        .with("content-type", "text/csv")
        .with("inference-header-content-length", "0");
    rows().ask(&request).is_error(
        400,
        "header Inference-Header-Content-Length: expected none with text/csv",
    );
}

#[test]
fn csv_that_cannot_be_read_is_counted_as_other_requests_are() {
    let server = rows();
    let request = Request::post("/invocations", "a,b").with("content-type", "text/csv");
    assert_eq!(server.ask(&request).status, 400);
    let invalid = r#"onnxd_inference_requests_total{model="m",outcome="invalid",version="1"}"#;
    assert_eq!(server.metric(invalid), Some(1.0));
}

#[test]
fn sagemaker_pings_for_readiness() {
    assert_eq!(samples().get("/ping").status, 200);
    let blocked = serde_json::json!({ "inputs": [["x", "INT64", [null]]], "load": "block" });
    let server = Setup::scripted(blocked).start_loading();
    server.gate.wait_for_blocked(1);
    assert_eq!(server.get("/ping").status, 503);
}

#[test]
fn vertex_ai_names_the_routes() {
    let server = moody()
        .with("server.health_route", "/v1/endpoints/7/deployedModels/9")
        .with(
            "server.predict_route",
            "/v1/endpoints/7/deployedModels/9:predict",
        )
        .start();
    assert_eq!(server.get("/v1/endpoints/7/deployedModels/9").status, 200);
    let answer = server.post(
        "/v1/endpoints/7/deployedModels/9:predict",
        r#"{"instances": [5], "parameters": {"confidence": 0.5}}"#,
    );
    assert_eq!(answer.ok()["predictions"], serde_json::json!([5]));
    let paths = server.get("/openapi.json").ok()["paths"].clone();
    for path in [
        "/v1/endpoints/7/deployedModels/9",
        "/v1/endpoints/7/deployedModels/9:predict",
    ] {
        assert!(paths[path].is_object(), "{path}");
    }
}

#[test]
fn a_further_route_may_be_one_that_is_there() {
    for (health, predict) in [
        ("/health", "/predict"),
        ("/ping", "/predict/m"),
        ("/livez", "/v2/models/m/infer"),
        ("/predict", "/health"),
        ("/v1/models/m", "/v1/models/m:predict"),
    ] {
        let server = moody()
            .with("server.health_route", health)
            .with("server.predict_route", predict)
            .start();
        assert_eq!(server.get(health).status, 200, "{health}");
        let body = r#"{"inputs": [{"name":"x","datatype":"INT64","shape":[1],"data":[5]}]}"#;
        let other = r#"{"instances": [5]}"#;
        let answers = [body, other].map(|body| server.post(predict, body).status);
        assert!(answers.contains(&200), "{predict}: {answers:?}");
    }
}
