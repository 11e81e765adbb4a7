//! One server with a model for every shape of request, for the tests that only ask.

use std::sync::LazyLock;

use onnxd::tensor::dtype::DataType;
use serde_json::json;

use super::server::{Setup, TestServer};

/// Models that echo: `rows` takes `x` of FP32 `[-1,2]`, `pair` takes `a` of FP32 `[n,2]` and `b` of INT64 `[n]`,
/// `constant` answers a scalar, and one model a data type, such as `fp32`, takes `x` of that type and any shape.
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
