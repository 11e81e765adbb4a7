//! Tensor objects of the Open Inference Protocol: each field is checked, and the message names it.

use super::check_protocol;
use crate::support::samples::samples;

/// One tensor object for `rows`.
fn tensor(fields: &str) -> String {
    format!(r#"{{"inputs": [{{{fields}}}]}}"#)
}

#[test]
fn a_tensor_object_must_be_complete() {
    let check = |fields, message| check_protocol("rows", &tensor(fields), message);
    check(r#""name": "x""#, "'datatype' is missing in input 'x'");
    check(
        r#""name": "x", "datatype": "FP32""#,
        "'shape' is missing in input 'x'",
    );
    check(
        r#""name": "x", "datatype": "FP32", "shape": [1,2]"#,
        "'data' is missing in input 'x'",
    );
    check(
        r#""datatype": "FP32", "shape": [1,2], "data": [1,2]"#,
        "'name' is missing in a tensor of 'inputs'",
    );
    check(
        r#""name": "x", "size": 2"#,
        "unknown key 'size' in a tensor of 'inputs'; valid keys are 'name', 'shape', 'datatype', 'parameters', 'data'",
    );
    check(
        r#""name": "x", "name": "x""#,
        "key 'name' is given twice in a tensor of 'inputs'",
    );
}

#[test]
fn a_tensor_object_must_fit_the_model() {
    let check = |fields: &str, message| check_protocol("rows", &tensor(fields), message);
    check(
        r#""name": "y", "datatype": "FP32", "shape": [1,2], "data": [1,2]"#,
        "unknown input 'y'; the model's inputs are 'x'",
    );
    check(
        r#""name": "x", "datatype": "FP64", "shape": [1,2], "data": [1,2]"#,
        "input 'x': expected datatype FP32, got FP64",
    );
    check(
        r#""name": "x", "datatype": "fp32", "shape": [1,2], "data": [1,2]"#,
        "input 'x': unknown datatype 'fp32'; valid ones are BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES",
    );
    check(
        r#""name": "x", "datatype": "FP32", "shape": [1,3], "data": [1,2,3]"#,
        "input 'x': expected shape [-1,2], got [1,3]",
    );
    check(
        r#""name": "x", "datatype": "FP32", "shape": [-1,2], "data": [1,2]"#,
        "input 'x': a shape has no negative dimensions, got [-1,2]",
    );
    check(
        r#""name": "x", "datatype": "FP32", "shape": [1,2], "data": [1,2,3]"#,
        "input 'x': shape [1,2] needs 2 elements in data, flat or nested like the shape; got 3 elements",
    );
    check(
        r#""name": "x", "datatype": "FP32", "shape": [1,2], "data": [[1],[2]]"#,
        "input 'x': shape [1,2] needs 2 elements in data, flat or nested like the shape; got lists nested as [2,1]",
    );
}

#[test]
fn tensor_objects_come_once_each_and_alone() {
    let x = r#"{"name": "x", "datatype": "FP32", "shape": [1,2], "data": [1,2]}"#;
    let check = |inputs: String, message| {
        check_protocol("rows", &format!(r#"{{"inputs": [{inputs}]}}"#), message);
    };
    check(
        format!("{x}, {x}"),
        "'inputs' has more tensors than the model has inputs, which is 1",
    );
    check(
        format!("{x}, 5"),
        "'inputs' mixes tensor objects with bare values",
    );
    let a = r#"{"name": "a", "datatype": "FP32", "shape": [1,2], "data": [1,2]}"#;
    check_protocol(
        "pair",
        &format!(r#"{{"inputs": [{a}, {a}]}}"#),
        "input 'a' is given twice",
    );
}

#[test]
fn requested_outputs_must_exist_once() {
    let check = |outputs: &str, message| {
        let body = format!(
            r#"{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [1,2], "data": [1,2]}}], "outputs": [{outputs}]}}"#
        );
        check_protocol("rows", &body, message);
    };
    check(
        r#"{"name": "y"}"#,
        "unknown output 'y'; the model's outputs are 'x_out'",
    );
    check(
        r#"{"name": "x_out"}, {"name": "x_out"}"#,
        "output 'x_out' is asked for twice",
    );
}

#[test]
fn every_message_names_the_field_that_is_wrong() {
    #[track_caller]
    fn check(body: &str, name: &str) {
        let answer = samples().post("/predict/rows", body);
        let message = answer.error();
        assert_eq!(answer.status, 400);
        let names_rust = message.contains("struct") || message.contains("i64");
        assert!(message.contains(name) && !names_rust, "{body}: {message}");
    }
    check(
        r#"{"instances": [[1,2]], "parameters": []}"#,
        "'parameters'",
    );
    check(
        r#"{"instances": [[1,2]], "parameters": {"timeout": "soon"}}"#,
        "'timeout'",
    );
    check(
        r#"{"instances": [[1,2]], "parameters": {"timeout": -5}}"#,
        "'timeout'",
    );
    check(
        r#"{"instances": [[1,2]], "parameters": {"nan": 5}}"#,
        "'nan'",
    );
    check(r#"{"instances": [[1,2]], "id": 5}"#, "'id'");
    check(&tensor(r#""name": 5"#), "'name'");
    check(&tensor(r#""name": "x", "datatype": 5"#), "'datatype'");
    check(&tensor(r#""name": "x", "shape": [1.5,2]"#), "'shape'");
    check(&tensor(r#""name": "x", "shape": "1,2""#), "'shape'");
    let wanted = |outputs| {
        format!(
            r#"{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [1,2], "data": [1,2]}}], "outputs": {outputs}}}"#
        )
    };
    check(&wanted(r#"["x_out"]"#), "'outputs'");
    check(&wanted(r#"{"name": "x_out"}"#), "'outputs'");
    check(&wanted(r#"[{"name": "x_out", "size": 1}]"#), "'outputs'");
}
