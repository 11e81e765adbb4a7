//! The REST API of TensorFlow Serving, which is also version 1 of KServe's protocol.

use expect_test::{Expect, expect};
use serde_json::json;

use crate::support::client::Request;
use crate::support::samples::samples;
use crate::support::server::{Setup, bundled};

#[track_caller]
fn check(path: &str, expected: Expect) {
    let answer = bundled().get(path);
    assert_eq!(answer.status, 200, "{}", answer.text());
    expected.assert_eq(answer.text());
}

#[track_caller]
fn predict(path: &str, body: &str, expected: Expect) {
    let answer = samples().post(path, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    expected.assert_eq(answer.text());
}

#[test]
fn the_models_are_listed_as_kserve_has_it() {
    check(
        "/v1/models",
        expect![[r#"{"models":["digits","iris","wine"]}"#]],
    );
}

#[test]
fn a_models_state_has_the_keys_of_both() {
    check(
        "/v1/models/iris",
        expect![[
            r#"{"model_version_status":[{"version":"2","state":"AVAILABLE","status":{"error_code":"OK","error_message":""}},{"version":"1","state":"AVAILABLE","status":{"error_code":"OK","error_message":""}}],"name":"iris","ready":true}"#
        ]],
    );
    for version in ["1", "v1"] {
        check(
            &format!("/v1/models/iris/versions/{version}"),
            expect![[
                r#"{"model_version_status":[{"version":"1","state":"AVAILABLE","status":{"error_code":"OK","error_message":""}}],"name":"iris","ready":true}"#
            ]],
        );
    }
}

#[test]
fn a_version_that_failed_or_is_loading_is_told_as_one() {
    let server = Setup::empty()
        .model("m/1", json!({ "inputs": [["x", "INT64", [null]]] }))
        .file("m/2/model.onnx", "no script")
        .file("m/model.toml", "versions = \"all\"")
        .with("repository.require_all", "false")
        .start_loaded();
    let status = server.get("/v1/models/m").ok();
    let states = &status["model_version_status"];
    assert_eq!(
        (&states[0]["version"], &states[0]["state"]),
        (&json!("2"), &json!("END"))
    );
    assert_eq!(states[0]["status"]["error_code"], "INTERNAL");
    assert_ne!(states[0]["status"]["error_message"], "");
    assert_eq!(
        (&states[1]["version"], &states[1]["state"]),
        (&json!("1"), &json!("AVAILABLE"))
    );
    assert_eq!(status["ready"], true);
    assert_eq!(server.get("/v1/models/m/versions/2").ok()["ready"], false);

    let blocked = json!({ "inputs": [["x", "INT64", [null]]], "load": "block" });
    let server = Setup::scripted(blocked).start_loading();
    server.gate.wait_for_blocked(1);
    let status = server.get("/v1/models/m").ok();
    assert_eq!(status["model_version_status"][0]["state"], "LOADING");
    assert_eq!(status["ready"], false);
}

#[test]
fn metadata_is_a_signature_in_tensorflows_words() {
    check(
        "/v1/models/wine/metadata",
        expect![[
            r#"{"model_spec":{"name":"wine","signature_name":"","version":"1"},"metadata":{"signature_def":{"signature_def":{"serving_default":{"inputs":{"features":{"dtype":"DT_FLOAT","tensor_shape":{"dim":[{"size":"-1","name":""},{"size":"13","name":""}],"unknown_rank":false},"name":"features"}},"outputs":{"label":{"dtype":"DT_STRING","tensor_shape":{"dim":[{"size":"-1","name":""}],"unknown_rank":false},"name":"label"},"probabilities":{"dtype":"DT_FLOAT","tensor_shape":{"dim":[{"size":"-1","name":""},{"size":"3","name":""}],"unknown_rank":false},"name":"probabilities"}},"method_name":"tensorflow/serving/predict"}}}}}"#
        ]],
    );
    let version = bundled().get("/v1/models/iris/versions/1/metadata").ok();
    assert_eq!(version["model_spec"]["version"], "1");
    let unknown = samples().get("/v1/models/fp16/metadata").ok();
    let signature = &unknown["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(
        signature["inputs"]["x"],
        json!({ "dtype": "DT_HALF", "tensor_shape": { "dim": [], "unknown_rank": true }, "name": "x" })
    );
}

#[test]
fn predictions_come_without_anything_else() {
    predict(
        "/v1/models/rows:predict",
        r#"{"signature_name": "serving_default", "instances": [[1,2],[3,4]]}"#,
        expect![[r#"{"predictions":[[1.0,2.0],[3.0,4.0]]}"#]],
    );
    predict(
        "/v1/models/pair/versions/1:predict",
        r#"{"instances": [{"a": [1,2], "b": 3}]}"#,
        expect![[r#"{"predictions":[{"a_out":[1.0,2.0],"b_out":3}]}"#]],
    );
    predict(
        "/v1/models/rows:predict",
        r#"{"inputs": {"x": [[1,2]]}, "id": "7"}"#,
        expect![[r#"{"outputs":[[1.0,2.0]]}"#]],
    );
    predict(
        "/v1/models/bytes:predict",
        r#"{"instances": [{"b64": "/w=="}, "text"]}"#,
        expect![[r#"{"predictions":[{"b64":"/w=="},"text"]}"#]],
    );
    // A client may escape the whole of what it takes for a name.
    predict(
        "/v1/models/%72ows%3Apredict",
        r#"{"inputs": [[1,2]]}"#,
        expect![[r#"{"outputs":[[1.0,2.0]]}"#]],
    );
}

#[test]
fn class_names_are_left_to_predict() {
    let row = r#"{"instances": [[5.1,3.5,1.4,0.2]]}"#;
    let answer = bundled().post("/v1/models/iris:predict", row).ok();
    let keys: Vec<_> = answer["predictions"][0]
        .as_object()
        .expect("two outputs")
        .keys()
        .collect();
    assert_eq!(keys, ["label", "probabilities"]);
}

#[test]
fn what_is_not_there_is_told() {
    let row = r#"{"instances": [[1,2]]}"#;
    let check = |path: &str, status: u16, message: &str| {
        samples().post(path, row).is_error(status, message);
    };
    check(
        "/v1/models/rows:classify",
        501,
        "'classify' is not implemented; an ONNX model has 'predict' only",
    );
    check(
        "/v1/models/rows/versions/1:explain",
        501,
        "'explain' is not implemented; an ONNX model has 'predict' only",
    );
    check(
        "/v1/models/rows:divine",
        404,
        "unknown method 'divine' of a model; the only one is 'predict'",
    );
    check(
        "/v1/models/rows/versions/9:predict",
        404,
        "model 'rows' has no version '9'; the versions served are '1'",
    );
    check(
        "/v1/models/rows/labels/stable:predict",
        404,
        "model 'rows' has no version with the label 'stable'; the versions served are 1",
    );
    for path in [
        "/v1/models/rose",
        "/v1/models/rose/metadata",
        "/v1/models/rose/labels/stable",
        "/v1/models/iris/versions/9",
        "/v1/models/iris/versions/x",
        "/v1/models/iris/labels/stable",
        "/v1/models/iris/labels/stable/metadata",
    ] {
        assert_eq!(bundled().get(path).status, 404, "{path}");
    }
    let objects = r#"{"inputs": [{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#;
    samples().post("/v1/models/rows:predict", objects).is_error(
        400,
        "expected 'instances', or 'inputs' with values; /v2 and /predict take tensor objects",
    );
}

#[test]
fn the_methods_of_a_path_depend_on_its_verb() {
    for (method, path, allowed) in [
        ("POST", "/v1/models/iris", "GET,HEAD"),
        ("POST", "/v1/models/iris/versions/2", "GET,HEAD"),
        ("GET", "/v1/models/iris:predict", "POST"),
        ("GET", "/v1/models/iris/versions/2:predict", "POST"),
        ("GET", "/v1/models/iris/labels/stable:predict", "POST"),
        ("DELETE", "/v1/models/iris", "GET,HEAD"),
        ("DELETE", "/v1/models/iris:predict", "POST"),
    ] {
        let answer = bundled().ask(&Request::new(method, path));
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
        answer.error();
    }
}
