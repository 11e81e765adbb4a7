//! Models that several areas use: one server with a model for every shape of request, for the tests that only ask, and
//! one model with moods.

use std::sync::LazyLock;

use onnxd::tensor::dtype::DataType;
use serde_json::{Value, json};

use super::client::Request;
use super::server::{Setup, TestServer};

/// Models that echo: `rows` takes `x` of FP32 `[-1,2]`, `pair` takes `a` of FP32 `[n,2]` and `b` of INT64 `[n]`,
/// `word` takes one string, `constant` answers a scalar, and one model a data type, such as `fp32`, takes `x` of that
/// type and any shape.
pub fn samples() -> &'static TestServer {
    static SERVER: LazyLock<TestServer> = LazyLock::new(start);
    &SERVER
}

fn start() -> TestServer {
    let mut setup = Setup::empty()
        .model("rows/1", json!({ "inputs": [["x", "FP32", [null, 2]]] }))
        .model(
            "pair/1",
            json!({ "inputs": [["a", "FP32", ["n", 2]], ["b", "INT64", ["n"]]] }),
        )
        .model("word/1", json!({ "inputs": [["x", "BYTES", [1]]] }))
        .model(
            "constant/1",
            json!({ "inputs": [["x", "FP32", [null]]], "outputs": [["y", "FP32", []]] }),
        );
    for dtype in DataType::ALL {
        let version = format!("{}/1", dtype.name().to_lowercase());
        setup = setup.model(&version, json!({ "inputs": [["x", dtype.name(), null]] }));
    }
    setup.start_shared()
}

/// One model `m` that takes a whole number: it blocks on 1, panics on 2, fails on 3; else it echoes.
pub fn moody() -> Setup {
    Setup::scripted(json!({
        "inputs": [["x", "INT64", [null]]],
        "on": { "1": "block", "2": "panic", "3": "fail" },
    }))
}

/// A model that takes whole numbers and blocks on 4.
pub fn good() -> Value {
    json!({ "inputs": [["x", "INT64", [null]]], "on": { "4": "block" } })
}

/// The same, told apart by what it takes.
pub fn renamed() -> Value {
    json!({ "inputs": [["renamed", "INT64", [null]]] })
}

/// One that cannot be loaded.
pub fn bad() -> Value {
    json!({ "inputs": [["x", "INT64", [null]]], "load": "fail" })
}

/// One row for the model `m`.
pub fn predict(element: i64) -> Request {
    Request::post("/predict/m", format!(r#"{{"instances": [{element}]}}"#))
}
