//! What ONNX Runtime answers, we answer, whichever way the rows come in.
//!
//! `tests/data/record_expected.py` recorded the answers.

use serde_json::{Value, json};

use crate::support::in_repository;
use crate::support::server::bundled;

struct Recorded {
    model: String,
    version: String,
    input: String,
    rows: Vec<Value>,
    labels: Vec<Value>,
    probabilities: Vec<Value>,
}

impl Recorded {
    fn read(name: &str) -> Recorded {
        let path = in_repository(&format!("tests/data/expected/{name}.json"));
        let text = std::fs::read_to_string(path).expect("the recorded answers are there");
        let recorded: Value = serde_json::from_str(&text).expect("they are JSON");
        let inputs = recorded["inputs"].as_object().expect("columns by name");
        let (input, rows) = inputs.iter().next().expect("one input");
        let list = |value: &Value| value.as_array().expect("a list").clone();
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        Recorded {
            model: text(&recorded["model"]),
            version: text(&recorded["version"]),
            input: input.clone(),
            rows: list(rows),
            labels: list(&recorded["outputs"]["label"]),
            probabilities: list(&recorded["outputs"]["probabilities"]),
        }
    }

    fn protocol_body(&self) -> Value {
        let mut shape = vec![self.rows.len()];
        let mut inner = &self.rows[0];
        while let Some(list) = inner.as_array() {
            shape.push(list.len());
            inner = &list[0];
        }
        let data: Vec<f64> = self.rows.iter().flat_map(flat).collect();
        json!({ "inputs": [{ "name": self.input, "datatype": "FP32", "shape": shape, "data": data }] })
    }
}

fn flat(value: &Value) -> Vec<f64> {
    match value.as_array() {
        Some(list) => list.iter().flat_map(flat).collect(),
        None => vec![value.as_f64().expect("a number")],
    }
}

#[track_caller]
fn assert_close(got: &Value, expected: &[Value]) {
    let (got, expected) = (
        flat(got),
        expected.iter().flat_map(flat).collect::<Vec<_>>(),
    );
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(&expected) {
        let allowed = 1e-5 * expected.abs() + 1e-6;
        assert!(
            (got - expected).abs() <= allowed,
            "got {got}, expected {expected}"
        );
    }
}

#[track_caller]
fn check(path: &str, recorded: &Recorded, body: &Value, read: impl Fn(&Value, &str) -> Value) {
    let answer = bundled().post(path, body.to_string()).ok();
    assert_eq!(answer["model_name"], json!(recorded.model));
    assert_eq!(answer["model_version"], json!(recorded.version));
    assert_eq!(read(&answer, "label"), json!(recorded.labels), "{path}");
    assert_close(&read(&answer, "probabilities"), &recorded.probabilities);
}

/// An output's values from each style of answer.
fn of_rows(answer: &Value, output: &str) -> Value {
    let rows = answer["predictions"].as_array().expect("a list of rows");
    rows.iter().map(|row| row[output].clone()).collect()
}

fn of_columns(answer: &Value, output: &str) -> Value {
    answer["outputs"][output].clone()
}

fn of_protocol(answer: &Value, output: &str) -> Value {
    let tensors = answer["outputs"].as_array().expect("a list of tensors");
    let tensor = tensors.iter().find(|tensor| tensor["name"] == output);
    tensor.expect("the output is there")["data"].clone()
}

fn check_every_face(name: &str) {
    let recorded = Recorded::read(name);
    let Recorded {
        model,
        version,
        input,
        rows,
        ..
    } = &recorded;
    let predict = format!("/predict/{model}/{version}");
    check(&predict, &recorded, &json!({ "instances": rows }), of_rows);
    let objects: Value = rows
        .iter()
        .map(|row| json!({ input.as_str(): row }))
        .collect();
    check(
        &predict,
        &recorded,
        &json!({ "instances": objects }),
        of_rows,
    );
    check(
        &predict,
        &recorded,
        &json!({ "inputs": { input.as_str(): rows } }),
        of_columns,
    );
    check(&predict, &recorded, &json!({ "inputs": rows }), of_columns);
    let protocol = recorded.protocol_body();
    check(&predict, &recorded, &protocol, of_protocol);
    let infer = format!("/v2/models/{model}/versions/{version}/infer");
    check(&infer, &recorded, &protocol, of_protocol);
}

#[test]
fn iris_1_answers_as_onnx_runtime_does() {
    check_every_face("iris-1");
}

#[test]
fn iris_2_answers_as_onnx_runtime_does() {
    check_every_face("iris-2");
}

#[test]
fn digits_1_answers_as_onnx_runtime_does() {
    check_every_face("digits-1");
}

#[test]
fn digits_2_answers_as_onnx_runtime_does() {
    check_every_face("digits-2");
}

#[test]
fn wine_1_answers_as_onnx_runtime_does() {
    check_every_face("wine-1");
}
