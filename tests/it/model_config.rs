//! A model's configuration, to the letter, and that it says what metadata says.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::support::samples::samples;
use crate::support::server::{Setup, bundled};

/// What was measured and may be otherwise the next time.
const MEASURED: [&str; 2] = ["batch_rows", "batch_reason"];

/// Checks a configuration but for what was measured, which must be there.
#[track_caller]
fn check(path: &str, expected: Expect) {
    let mut config = bundled().get(path).ok();
    let parameters = config["parameters"].as_object_mut().expect("an object");
    for name in MEASURED {
        let measured = parameters.shift_remove(name).expect("it was measured");
        assert!(measured["string_value"].is_string(), "{measured}");
    }
    config
        .as_object_mut()
        .expect("an object")
        .shift_remove("dynamic_batching");
    expected.assert_eq(&config.to_string());
}

#[test]
fn a_model_whose_requests_join_has_a_batch_size_and_dims_without_it() {
    check(
        "/v2/models/iris/config",
        expect![[
            r#"{"name":"iris","platform":"onnx_onnxv1","backend":"onnxd","version_policy":{"all":{}},"max_batch_size":1024,"input":[{"name":"features","data_type":"TYPE_FP32","format":"FORMAT_NONE","dims":[4],"is_shape_tensor":false,"allow_ragged_batch":false,"optional":false}],"output":[{"name":"label","data_type":"TYPE_INT64","dims":[],"label_filename":"labels.txt","is_shape_tensor":false},{"name":"probabilities","data_type":"TYPE_FP32","dims":[3],"label_filename":"","is_shape_tensor":false}],"instance_group":[{"name":"iris","kind":"KIND_CPU","count":1}],"default_model_filename":"model.onnx","parameters":{"engine":{"string_value":"tract"},"engine_reason":{"string_value":"no other engine was asked; 2 golden requests as expected"},"instances":{"string_value":"1"},"threads_per_instance":{"string_value":"1"},"priority_levels":{"string_value":"0"}},"model_transaction_policy":{"decoupled":false}}"#
        ]],
    );
    let whole = bundled().get("/v2/models/iris/config").ok();
    let one = bundled().get("/v2/models/iris/versions/2/config").ok();
    assert_eq!(
        (&one["name"], &one["input"]),
        (&whole["name"], &whole["input"])
    );
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

/// A model whose owner sets how its requests are joined.
fn owned(owner: &str) -> Value {
    let rows = json!({ "inputs": [["x", "INT64", [null]]] });
    let server = Setup::scripted(rows).file("m/model.toml", owner).start();
    server.get("/v2/models/m/config").ok()
}

#[test]
fn batching_is_there_exactly_when_requests_are_joined() {
    let config = owned(
        "max_batch_rows = 16\npreferred_batch_rows = [8, 4]\nmax_queue_delay_us = 300\npriority_levels = 3\n\
         default_priority_level = 2\n[queue_policy]\nmax_queue_rows = 9\n\
         [priority_queue_policy.1]\ntimeout_action = \"delay\"\ndefault_timeout_us = 5000\nallow_timeout_override = true\n",
    );
    assert_eq!(
        config["dynamic_batching"],
        json!({
            "preferred_batch_size": [4, 8],
            "max_queue_delay_microseconds": 300,
            "preserve_ordering": false,
            "priority_levels": 3,
            "default_priority_level": 2,
            "default_queue_policy": {
                "timeout_action": "REJECT",
                "default_timeout_microseconds": 0,
                "allow_timeout_override": false,
                "max_queue_size": 9,
            },
            "priority_queue_policy": { "1": {
                "timeout_action": "DELAY",
                "default_timeout_microseconds": 5000,
                "allow_timeout_override": true,
                "max_queue_size": 0,
            } },
        })
    );
    let told = |config: &Value, name: &str| config["parameters"][name]["string_value"].clone();
    assert_eq!(told(&config, "batch_rows"), "16");
    let reason = told(&config, "batch_reason");
    let reason = reason.as_str().expect("text");
    assert!(reason.starts_with("max_queue_delay_us is set"), "{reason}");
    assert!(reason.contains("per row "), "{reason}");
    let config = owned("max_batch_rows = 1");
    assert_eq!(config["dynamic_batching"], Value::Null);
    assert_eq!(told(&config, "batch_rows"), "1");
    let fixed = json!({ "inputs": [["x", "INT64", [3]]] });
    let config = Setup::scripted(fixed)
        .start()
        .get("/v2/models/m/config")
        .ok();
    assert_eq!(config["dynamic_batching"], Value::Null);
    let reason = told(&config, "batch_reason");
    let reason = reason.as_str().expect("text");
    assert!(
        reason.starts_with("requests cannot be joined: "),
        "{reason}"
    );
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
