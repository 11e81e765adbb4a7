//! Malformed requests: each is refused with 400 and a sentence that says what was expected and what came.

mod tensor_objects;

use crate::support::samples::samples;

#[track_caller]
fn check(path: &str, body: &str, message: &str) {
    let answer = samples().post(path, body);
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (400, message),
        "{path} {body}"
    );
}

/// The same request at both faces that take the Open Inference Protocol.
#[track_caller]
fn check_protocol(model: &str, body: &str, message: &str) {
    check(&format!("/predict/{model}"), body, message);
    check(&format!("/v2/models/{model}/infer"), body, message);
}

#[test]
fn a_body_that_is_not_json_is_told_where_it_breaks() {
    let check = |body, problem: &str| {
        check_protocol(
            "rows",
            body,
            &format!(
                "the body is not valid JSON: {problem}; expected an object with 'instances' or 'inputs'"
            ),
        );
    };
    check("", "EOF while parsing a value at line 1 column 0");
    check("{", "EOF while parsing an object at line 1 column 1");
    check(
        r#"{"instances": [[1,2]]} x"#,
        "trailing characters at line 1 column 24",
    );
    check(
        r#"{"instances": [[1,+2]]}"#,
        "expected value at line 1 column 19",
    );
    check(
        r#"{"instances": [[1,NaN]}"#,
        "expected `,` or `]` at line 1 column 23",
    );
    check(
        r#"{"inputs": [{"data":[1,],"name":"x","datatype":"FP32","shape":[1,2]}]}"#,
        "expected value at line 1 column 24",
    );
}

#[test]
fn the_top_level_is_an_object_with_one_kind_of_input() {
    let check = |body, message| check_protocol("rows", body, message);
    check(
        "[]",
        "the request is not valid: invalid type: sequence, expected a JSON object with 'instances' or 'inputs' at line 1 column 2",
    );
    check("{}", "expected exactly one of 'instances' and 'inputs'");
    check(
        r#"{"instances": [[1,2]], "inputs": [[1,2]]}"#,
        "expected exactly one of 'instances' and 'inputs'",
    );
    check(
        r#"{"instances": [[1,2]], "options": 1}"#,
        "unknown key 'options'; valid keys are 'instances', 'inputs', 'outputs', 'id', 'parameters', 'signature_name'",
    );
    check(
        r#"{"instances": [[1,2]], "instances": [[1,2]]}"#,
        "key 'instances' is given twice",
    );
    check(
        r#"{"instances": [[1,2]], "outputs": [{"name": "x_out"}]}"#,
        "'outputs' needs 'inputs' as a list of tensor objects",
    );
}

#[test]
fn rows_must_be_there_and_fit_the_only_input() {
    let check = |body, message| check("/predict/rows", body, message);
    check(
        r#"{"instances": []}"#,
        "'instances' is empty; expected at least one row",
    );
    check(
        r#"{"instances": 5}"#,
        "the request is not valid: invalid type: integer `5`, expected 'instances' as a list of rows at line 1 column 15",
    );
    check(
        r#"{"instances": [[1,2],[1,2,3]]}"#,
        "input 'x': lists at nesting level 1 differ in length: 2 and 3; a tensor needs equal ones",
    );
    check(
        r#"{"instances": [[1,2],1]}"#,
        "input 'x': values and lists are mixed at one level of nesting",
    );
    check(
        r#"{"instances": [1,2]}"#,
        "input 'x': expected shape [-1,2], got [2]",
    );
    check(
        r#"{"instances": [{"y": [1,2]}]}"#,
        "unknown input 'y'; the model's inputs are 'x'",
    );
    check(r#"{"instances": [{}]}"#, "row 0: input 'x' is missing");
    check(
        r#"{"instances": [{"x": [1,2], "x": [1,2]}]}"#,
        "row 0: input 'x' is given twice",
    );
}

#[test]
fn columns_must_be_named_once_and_fit() {
    let check = |body, message| check("/predict/rows", body, message);
    check(
        r#"{"inputs": {"y": [[1,2]]}}"#,
        "unknown input 'y'; the model's inputs are 'x'",
    );
    check(
        r#"{"inputs": {}}"#,
        "input 'x' is missing; the model's inputs are 'x'",
    );
    check(
        r#"{"inputs": {"x": [[1,2]], "x": [[1,2]]}}"#,
        "input 'x' is given twice",
    );
    check(
        r#"{"inputs": [[1,2,3]]}"#,
        "input 'x': expected shape [-1,2], got [1,3]",
    );
}

#[test]
fn several_inputs_must_all_be_there_and_agree() {
    let check = |body, message| check("/predict/pair", body, message);
    check(
        r#"{"instances": [[1,2]]}"#,
        "row 0: expected an object with 'a', 'b', since the model has 2 inputs",
    );
    check(
        r#"{"instances": [{"a": [1,2]}]}"#,
        "row 0: input 'b' is missing",
    );
    check(
        r#"{"instances": [{"a": [1,2], "b": 1}, {"a": [1,2], "b": [1]}]}"#,
        "input 'b': values and lists are mixed at one level of nesting",
    );
    check(
        r#"{"inputs": [[1,2]]}"#,
        "'inputs': expected an object with 'a', 'b', since the model has 2 inputs",
    );
    check(
        r#"{"inputs": {"a": [[1,2]]}}"#,
        "input 'b' is missing; the model's inputs are 'a', 'b'",
    );
    check(
        r#"{"inputs": {"a": [[1,2]], "b": [1,2]}}"#,
        "input 'b': dimension 'n' is 2 here and 1 in another input; they must be equal",
    );
    check_protocol(
        "pair",
        r#"{"inputs": [{"name": "a", "datatype": "FP32", "shape": [1,2], "data": [1,2]}]}"#,
        "input 'b' is missing; the model's inputs are 'a', 'b'",
    );
}

#[test]
fn the_protocols_route_takes_only_the_protocols_style() {
    let message = "expected 'inputs' as a list of tensor objects with 'name', 'shape', 'datatype' and 'data'; /predict takes other styles";
    check(
        "/v2/models/rows/infer",
        r#"{"instances": [[1,2]]}"#,
        message,
    );
    check("/v2/models/rows/infer", r#"{"inputs": [[1,2]]}"#, message);
    check(
        "/v2/models/rows/infer",
        r#"{"inputs": {"x": [[1,2]]}}"#,
        message,
    );
}

#[test]
fn rows_need_an_output_with_rows() {
    check(
        "/predict/constant",
        r#"{"instances": [1]}"#,
        "output 'y' has shape [] and so no rows to answer 'instances' with; send 'inputs' instead",
    );
}

#[test]
fn parameters_that_mean_something_are_checked() {
    let check = |parameters: &str, message| {
        let body = format!(
            r#"{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [1,2], "data": [1,2]}}], "parameters": {parameters}}}"#
        );
        check_protocol("rows", &body, message);
    };
    check(
        r#"{"timeout": -1}"#,
        "parameter 'timeout': expected a whole number of microseconds, got -1",
    );
    check(
        r#"{"nan": "zero"}"#,
        "parameter 'nan': expected 'null' or 'token', got 'zero'",
    );
    let answer = samples().post(
        "/predict/rows",
        r#"{"instances": [[1,2]], "parameters": {"priority": 7, "anything": [7], "timeout": 0}}"#,
    );
    assert_eq!(answer.status, 200, "parameters that mean nothing here pass");
}
