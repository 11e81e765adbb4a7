//! A model's configuration, to the letter, and that it says what metadata says.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::support::samples::samples;
use crate::support::server::{Setup, bundled};

#[track_caller]
fn check(path: &str, expected: Expect) {
    let answer = bundled().get(path);
    assert_eq!(answer.status, 200, "{}", answer.text());
    expected.assert_eq(answer.text());
}

#[test]
fn a_model_whose_requests_join_has_a_batch_size_and_dims_without_it() {
    check(
        "/v2/models/iris/config",
        expect![[
            r#"{"name":"iris","platform":"onnx_onnxv1","backend":"onnxd","version_policy":{"all":{}},"max_batch_size":1024,"input":[{"name":"features","data_type":"TYPE_FP32","format":"FORMAT_NONE","dims":[4],"is_shape_tensor":false,"allow_ragged_batch":false,"optional":false}],"output":[{"name":"label","data_type":"TYPE_INT64","dims":[],"label_filename":"labels.txt","is_shape_tensor":false},{"name":"probabilities","data_type":"TYPE_FP32","dims":[3],"label_filename":"","is_shape_tensor":false}],"instance_group":[{"name":"iris","kind":"KIND_CPU","count":1}],"default_model_filename":"model.onnx","parameters":{"engine":{"string_value":"tract"},"engine_reason":{"string_value":"no other engine was asked"},"threads_per_instance":{"string_value":"1"}},"model_transaction_policy":{"decoupled":false}}"#
        ]],
    );
    let whole = bundled().get("/v2/models/iris/config");
    let one = bundled().get("/v2/models/iris/versions/2/config");
    assert_eq!(one.text(), whole.text());
}

#[test]
fn dims_follow_metadata() {
    let models = samples().get("/v2/models").ok();
    let names = models["models"].as_array().expect("a list of names").iter();
    for name in names.map(|name| name.as_str().expect("a name")) {
        let metadata = samples().get(&format!("/v2/models/{name}")).ok();
        let config = samples().get(&format!("/v2/models/{name}/config")).ok();
        let batches = config["max_batch_size"].as_i64().expect("a number") > 0;
        for (of, in_metadata) in [("input", "inputs"), ("output", "outputs")] {
            let tensors = config[of].as_array().expect("a list").iter();
            let others = metadata[in_metadata].as_array().expect("a list");
            assert_eq!(tensors.len(), others.len());
            for (tensor, other) in tensors.zip(others) {
                let mut dims = tensor["dims"].as_array().expect("a list").clone();
                if batches {
                    dims.insert(0, json!(-1));
                }
                assert_eq!(tensor["name"], other["name"]);
                assert_eq!(Value::Array(dims), other["shape"], "{name}");
                let data_type = tensor["data_type"].as_str().expect("a type");
                let datatype = other["datatype"].as_str().expect("a type");
                let datatype = datatype.replace("BYTES", "STRING");
                assert_eq!(data_type, format!("TYPE_{datatype}"));
            }
        }
    }
}

#[test]
fn where_the_first_dimension_is_fixed_there_is_no_batch() {
    let fixed = json!({ "inputs": [["x", "INT64", [3]]] });
    let server = Setup::scripted(fixed).start();
    let config = server.get("/v2/models/m/config").ok();
    assert_eq!(config["max_batch_size"], 0);
    assert_eq!(config["input"][0]["dims"], json!([3]));
}

#[test]
fn the_most_rows_of_a_request_are_those_that_the_queue_can_hold() {
    let rows = json!({ "inputs": [["x", "INT64", [null]]] });
    let server = Setup::scripted(rows)
        .with("inference.queue_rows", "7")
        .start();
    let config = server.get("/v2/models/m/config").ok();
    assert_eq!(config["max_batch_size"], 7);
    assert_eq!(config["input"][0]["dims"], json!([]));
    let rows = |count| json!({ "instances": vec![1; count] }).to_string();
    assert_eq!(server.post("/predict/m", rows(7)).status, 200);
    assert_eq!(server.post("/predict/m", rows(8)).status, 413);
}

#[test]
fn the_policy_and_the_files_of_labels_are_told() {
    let rows = json!({ "inputs": [["x", "INT64", [null]]] });
    let server = Setup::empty()
        .model("m/1", rows.clone())
        .model("m/2", rows)
        .file(
            "m/model.toml",
            "versions = { pinned = [1, 2] }\nlabels = { output = \"x_out\", file = \"names.txt\" }",
        )
        .file("m/names.txt", "a\nb\n")
        .start();
    let config = server.get("/v2/models/m/config").ok();
    let policy = json!({ "specific": { "versions": [1, 2] } });
    assert_eq!(config["version_policy"], policy);
    assert_eq!(config["output"][0]["label_filename"], "names.txt");
}

#[test]
fn an_unknown_model_has_none() {
    let message = "unknown model 'rose'; the models are 'digits', 'iris', 'wine'";
    let answer = bundled().get("/v2/models/rose/config");
    answer.is_error(404, message);
}
