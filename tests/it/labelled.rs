//! Outputs whose columns have names, as a ZipMap gives them: a map for each row in /predict, a tensor in the protocol.

use expect_test::{Expect, expect};
use serde_json::json;

use crate::support::server::{Setup, TestServer};

/// Models that echo: `m` names the columns of its output, `pair` has another output besides, `wide` has more columns
/// than names.
fn server() -> TestServer {
    let names = json!(["no", "\"yes\""]);
    let x = json!(["x", "FP32", [null, 2], names]);
    let wide = json!(["x", "FP32", [null, 3], names]);
    let class = json!(["class", "INT64", [null]]);
    Setup::empty()
        .model("m/1", json!({ "inputs": [x] }))
        .model("pair/1", json!({ "inputs": [class, x] }))
        .model("wide/1", json!({ "inputs": [wide] }))
        .start()
}

fn check(server: &TestServer, path: &str, body: &str, expected: Expect) {
    let answer = server.post(path, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    expected.assert_eq(answer.text());
}

#[test]
fn columns_with_names_are_a_map_for_each_row() {
    let server = server();
    check(
        &server,
        "/predict/m",
        r#"{"instances": [[0.25,0.75],[1,NaN]]}"#,
        expect![[
            r#"{"model_name":"m","model_version":"1","predictions":[{"no":0.25,"\"yes\"":0.75},{"no":1.0,"\"yes\"":null}]}"#
        ]],
    );
    check(
        &server,
        "/predict/m",
        r#"{"inputs": {"x": [[0.25,0.75]]}, "parameters": {"nan": "token"}}"#,
        expect![[
            r#"{"model_name":"m","model_version":"1","outputs":[{"no":0.25,"\"yes\"":0.75}]}"#
        ]],
    );
    check(
        &server,
        "/predict/pair",
        r#"{"instances": [{"class": 1, "x": [0.25,0.75]}]}"#,
        expect![[
            r#"{"model_name":"pair","model_version":"1","predictions":[{"class_out":1,"x_out":{"no":0.25,"\"yes\"":0.75}}]}"#
        ]],
    );
    check(
        &server,
        "/predict/pair",
        r#"{"inputs": {"class": [1,0], "x": [[0.25,0.75],[1,0]]}}"#,
        expect![[
            r#"{"model_name":"pair","model_version":"1","outputs":{"class_out":[1,0],"x_out":[{"no":0.25,"\"yes\"":0.75},{"no":1.0,"\"yes\"":0.0}]}}"#
        ]],
    );
}

#[test]
fn the_protocol_knows_them_as_a_tensor() {
    let server = server();
    let body =
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1,2], "data": [0.25,0.75]}]}"#;
    for path in ["/predict/m", "/v2/models/m/infer"] {
        let answer = server.post(path, body).ok();
        assert_eq!(
            answer["outputs"],
            json!([{ "name": "x_out", "datatype": "FP32", "shape": [1,2], "data": [0.25,0.75] }])
        );
    }
    let metadata = server.get("/v2/models/m").ok();
    assert_eq!(
        metadata["outputs"],
        json!([{ "name": "x_out", "datatype": "FP32", "shape": [-1, 2] }])
    );
}

#[test]
fn an_output_that_is_not_as_wide_stays_nested() {
    check(
        &server(),
        "/predict/wide",
        r#"{"instances": [[1,2,3]]}"#,
        expect![[r#"{"model_name":"wide","model_version":"1","predictions":[[1.0,2.0,3.0]]}"#]],
    );
}
