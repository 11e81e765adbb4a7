//! The three styles of `/predict`: several inputs and outputs, what is asked for, what is echoed, and class names.

use expect_test::{Expect, expect};
use serde_json::json;

use crate::support::client::Request;
use crate::support::samples::samples;
use crate::support::server::{Setup, bundled};

fn check(path: &str, body: &str, expected: Expect) {
    let answer = samples().post(path, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    expected.assert_eq(answer.text());
}

const A: &str = r#"{"name":"a","datatype":"FP32","shape":[2,2],"data":[1,2,3,4]}"#;
const B: &str = r#"{"name":"b","datatype":"INT64","shape":[2],"data":[5,6]}"#;

#[test]
fn several_inputs_come_in_rows() {
    check(
        "/predict/pair",
        r#"{"instances": [{"a": [1,2], "b": 5}, {"b": 6, "a": [3,4]}]}"#,
        expect![[
            r#"{"model_name":"pair","model_version":"1","predictions":[{"a_out":[1.0,2.0],"b_out":5},{"a_out":[3.0,4.0],"b_out":6}]}"#
        ]],
    );
}

#[test]
fn several_inputs_come_in_columns() {
    check(
        "/predict/pair",
        r#"{"inputs": {"b": [5,6], "a": [[1,2],[3,4]]}}"#,
        expect![[
            r#"{"model_name":"pair","model_version":"1","outputs":{"a_out":[[1.0,2.0],[3.0,4.0]],"b_out":[5,6]}}"#
        ]],
    );
}

#[test]
fn several_inputs_come_as_tensor_objects_in_any_order() {
    for path in [
        "/predict/pair",
        "/v2/models/pair/infer",
        "/v2/models/pair/versions/v1/infer",
    ] {
        for inputs in [[A, B], [B, A]] {
            check(
                path,
                &format!(r#"{{"inputs": [{}]}}"#, inputs.join(",")),
                expect![[
                    r#"{"model_name":"pair","model_version":"1","outputs":[{"name":"a_out","datatype":"FP32","shape":[2,2],"data":[1.0,2.0,3.0,4.0]},{"name":"b_out","datatype":"INT64","shape":[2],"data":[5,6]}]}"#
                ]],
            );
        }
    }
}

#[test]
fn outputs_come_in_the_order_in_which_they_are_asked_for() {
    let order = |outputs: &str| {
        let body = format!(r#"{{"outputs": {outputs}, "inputs": [{A}, {B}]}}"#);
        let answer = samples().post("/v2/models/pair/infer", body).ok();
        let outputs = answer["outputs"].as_array().expect("a list of tensors");
        outputs
            .iter()
            .map(|output| output["name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        order(r#"[{"name": "b_out"}, {"name": "a_out"}]"#),
        ["b_out", "a_out"]
    );
    assert_eq!(
        order(r#"[{"name": "b_out", "parameters": {"binary_data": false}}]"#),
        ["b_out"]
    );
    assert_eq!(order("[]"), ["a_out", "b_out"]);
}

#[test]
fn an_id_is_echoed_and_an_empty_one_left_out() {
    for (path, inputs) in [
        ("/predict/rows", r#""instances": [[1,2]]"#.to_owned()),
        ("/predict/rows", r#""inputs": [[1,2]]"#.to_owned()),
        ("/v2/models/pair/infer", format!(r#""inputs": [{A}, {B}]"#)),
    ] {
        let answer = samples()
            .post(path, format!(r#"{{{inputs}, "id": "no. 7 \"ž\""}}"#))
            .ok();
        assert_eq!(answer["id"], "no. 7 \"ž\"");
        let answer = samples()
            .post(path, format!(r#"{{"id": "", {inputs}}}"#))
            .ok();
        assert_eq!(answer.get("id"), None);
    }
}

#[test]
fn what_other_servers_take_passes() {
    let body = r#"{"signature_name": "serving_default", "instances": [[1,2]], "parameters": {"priority": 1}}"#;
    check(
        "/predict/rows",
        body,
        expect![[r#"{"model_name":"rows","model_version":"1","predictions":[[1.0,2.0]]}"#]],
    );
}

#[test]
fn any_content_type_or_none_is_json() {
    let body = r#"{"instances": [[1,2]]}"#;
    for kind in [
        "application/json",
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "text/plain",
        "nonsense",
    ] {
        let answer =
            samples().ask(&Request::post("/predict/rows", body).with("content-type", kind));
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
    }
    assert_eq!(samples().post("/predict/rows", body).status, 200);
}

#[test]
fn names_in_the_path_may_be_percent_encoded() {
    for path in [
        "/predict/p%61ir/%31",
        "/predict/%70%61%69%72",
        "/v2/models/p%61ir/infer",
        "/v2/models/pair/versions/%31/infer?verbose=1",
    ] {
        let answer = samples()
            .post(path, format!(r#"{{"inputs": [{A}, {B}]}}"#))
            .ok();
        assert_eq!(answer["model_name"], "pair", "{path}");
    }
}

const IRIS: &str = r#"{"inputs": [{"name":"features","datatype":"FP32","shape":[2,4],"data":[5.1,3.5,1.4,0.2,6.7,3.0,5.2,2.3]}]}"#;

#[test]
fn classes_get_their_names_in_every_style_of_predict() {
    let rows = bundled()
        .post(
            "/predict",
            r#"{"instances": [[5.1,3.5,1.4,0.2],[6.7,3.0,5.2,2.3]]}"#,
        )
        .ok();
    assert_eq!(rows["predictions"][0]["label_name"], "setosa");
    assert_eq!(rows["predictions"][1]["label_name"], "virginica");
    let columns = bundled()
        .post("/predict/iris", r#"{"inputs": [[5.1,3.5,1.4,0.2]]}"#)
        .ok();
    assert_eq!(columns["outputs"]["label_name"], json!(["setosa"]));
    let protocol = bundled().post("/predict/iris/2", IRIS).ok();
    assert_eq!(
        protocol["outputs"][2],
        json!({ "name": "label_name", "datatype": "BYTES", "shape": [2], "data": ["setosa", "virginica"] })
    );
}

#[test]
fn the_protocols_own_route_adds_nothing() {
    let answer = bundled().post("/v2/models/iris/infer", IRIS).ok();
    let outputs = answer["outputs"].as_array().expect("a list of tensors");
    let names: Vec<_> = outputs.iter().map(|output| &output["name"]).collect();
    assert_eq!(names, ["label", "probabilities"]);
}

#[test]
fn a_class_without_a_name_keeps_its_number() {
    let server = Setup::scripted(json!({ "inputs": [["x", "INT64", [null]]] }))
        .file(
            "m/model.toml",
            r#"labels = { output = "x_out", file = "names.txt" }"#,
        )
        .file("m/names.txt", "zero\r\none\n")
        .start();
    let answer = server.post("/predict", r#"{"inputs": [1, 0, 2, -1]}"#).ok();
    assert_eq!(
        answer["outputs"]["x_out_name"],
        json!(["one", "zero", "2", "-1"])
    );
}
