//! The OpenAPI document and the pages: every route is in it, and every example in it works.

use std::collections::BTreeSet;

use expect_test::expect;
use onnxd::http::ROUTES;
use serde_json::Value;

use crate::support::client::Request;
use crate::support::samples::samples;
use crate::support::server::{Setup, TestServer, bundled};

fn document(server: &TestServer) -> Value {
    server.get("/openapi.json").ok()
}

fn paths(document: &Value) -> impl Iterator<Item = (&String, &Value)> {
    document["paths"]
        .as_object()
        .expect("there are paths")
        .iter()
}

#[test]
fn the_paths_are_these() {
    let document = document(bundled());
    let paths: Vec<_> = paths(&document)
        .map(|(path, item)| {
            let methods: Vec<_> = item
                .as_object()
                .expect("it has methods")
                .keys()
                .cloned()
                .collect();
            format!("{:4} {path}", methods.join(","))
        })
        .collect();
    expect![[r#"
        post /predict/digits
        post /v2/models/digits/infer
        post /v1/models/digits:predict
        post /predict/iris
        post /v2/models/iris/infer
        post /v1/models/iris:predict
        post /predict/wine
        post /v2/models/wine/infer
        post /v1/models/wine:predict
        get  /
        get  /docs
        get  /docs/page.css
        get  /docs/page.js
        get  /openapi.json
        post /predict
        post /predict/{model}
        post /predict/{model}/{version}
        get  /v2
        get  /v2/health/live
        get  /v2/health/ready
        get  /v2/models
        get  /v2/models/stats
        get  /v2/models/{model}
        get  /v2/models/{model}/ready
        get  /v2/models/{model}/config
        get  /v2/models/{model}/stats
        post /v2/models/{model}/infer
        get  /v2/models/{model}/versions/{version}
        get  /v2/models/{model}/versions/{version}/ready
        get  /v2/models/{model}/versions/{version}/config
        get  /v2/models/{model}/versions/{version}/stats
        post /v2/models/{model}/versions/{version}/infer
        post /v2/repository/index
        post /v2/repository/models/{model}/load
        post /v2/repository/models/{model}/unload
        get  /v1/models
        get  /v1/models/{model}
        get  /v1/models/{model}/metadata
        post /v1/models/{model}:predict
        get  /v1/models/{model}/versions/{version}
        get  /v1/models/{model}/versions/{version}/metadata
        post /v1/models/{model}/versions/{version}:predict
        get  /v1/models/{model}/labels/{label}
        get  /v1/models/{model}/labels/{label}/metadata
        post /v1/models/{model}/labels/{label}:predict
        get  /ping
        post /invocations
        get  /health
        get  /health/ready
        get  /health/live
        get  /readyz
        get  /livez
        get  /metrics"#]]
    .assert_eq(&paths.join("\n"));
}

#[test]
fn every_route_is_documented() {
    let document = document(bundled());
    for route in ROUTES {
        let operation = &document["paths"][&*route.path][route.method.to_lowercase()];
        assert!(operation.is_object(), "{} {}", route.method, route.path);
        assert!(operation["responses"]["200"].is_object(), "{}", route.path);
    }
}

#[track_caller]
fn every_example_works(server: &TestServer) -> usize {
    let document = document(server);
    let mut sent = 0;
    for (path, item) in paths(&document) {
        let content = &item["post"]["requestBody"]["content"]["application/json"];
        for (name, example) in content["examples"].as_object().into_iter().flatten() {
            let body = example["value"].to_string();
            let answer = server.post(path, body.clone());
            assert_eq!(
                answer.status,
                200,
                "{path}, {name}: {body}: {}",
                answer.text()
            );
            sent += 1;
        }
    }
    sent
}

#[test]
fn every_example_is_answered() {
    let models = document(bundled())["tags"]
        .as_array()
        .expect("tags")
        .iter()
        .filter(|tag| {
            tag["name"]
                .as_str()
                .is_some_and(|name| name.starts_with("Model "))
        })
        .count();
    assert_eq!(models, 3);
    // Three styles of /predict, one of version 2, two of version 1.
    assert_eq!(every_example_works(bundled()), 6 * models);
    assert!(every_example_works(samples()) > 60);
}

#[test]
fn a_models_types_are_its_own() {
    let document = document(samples());
    let rows = &document["components"]["schemas"]["rows.Rows"]["properties"]["instances"];
    expect![[r##"{"type":"array","minItems":1,"items":{"anyOf":[{"type":"array","minItems":2,"maxItems":2,"items":{"$ref":"#/components/schemas/FP32"}},{"type":"object","required":["x"],"properties":{"x":{"type":"array","minItems":2,"maxItems":2,"items":{"$ref":"#/components/schemas/FP32"}}},"additionalProperties":false}]}}"##]]
        .assert_eq(&rows.to_string());
    let columns = &document["components"]["schemas"]["pair.Columns"]["properties"]["inputs"];
    expect![[r##"{"type":"object","required":["a","b"],"properties":{"a":{"type":"array","minItems":1,"items":{"type":"array","minItems":2,"maxItems":2,"items":{"$ref":"#/components/schemas/FP32"}}},"b":{"type":"array","items":{"$ref":"#/components/schemas/INT64"}}},"additionalProperties":false}"##]]
        .assert_eq(&columns.to_string());
}

#[test]
fn the_limits_of_numbers_are_exact() {
    let document = document(samples());
    let schemas = &document["components"]["schemas"];
    let send = |dtype: &str, number: String| {
        let path = format!("/predict/{}", dtype.to_lowercase());
        let body = format!("{{\"inputs\": {{\"x\": [{number}]}}}}");
        samples().post(&path, body).status
    };
    for dtype in ["FP16", "BF16", "FP32", "FP64"] {
        for (limit, sign) in [("minimum", -1.0), ("maximum", 1.0)] {
            let limit = schemas[dtype]["anyOf"][0][limit].as_f64().expect(dtype);
            assert_eq!(send(dtype, format!("{limit:e}")), 200, "{dtype}");
            let beyond = match dtype {
                "FP64" => format!("{sign}e309"),
                // Some machines round by way of FP32, others do not.
                "FP16" => format!("{}", sign * 65520.0),
                _ => format!("{:e}", (limit * sign).next_up() * sign),
            };
            assert_eq!(send(dtype, beyond), 400, "{dtype}");
        }
    }
    for dtype in [
        "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    ] {
        for (limit, step) in [("minimum", -1), ("maximum", 1)] {
            let limit = schemas[dtype][limit].to_string();
            let beyond = limit.parse::<i128>().expect(dtype) + step;
            assert_eq!(send(dtype, limit), 200, "{dtype}");
            assert_eq!(send(dtype, beyond.to_string()), 400, "{dtype}");
        }
    }
}

#[test]
fn pages_bring_all_they_need_and_may_load_nothing_else() {
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/page.css", "text/css; charset=utf-8"),
        ("/docs/page.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = bundled().ask(&Request::get(path));
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, Some(kind)),
            "{path}"
        );
        let policy = answer
            .header("content-security-policy")
            .expect("it has a policy");
        let sources: BTreeSet<_> = policy
            .split(['\'', ' ', ';'])
            .filter(|word| word.contains("://") || word.contains('*'))
            .collect();
        assert!(
            policy.starts_with("default-src 'none'") && sources.is_empty(),
            "{policy}"
        );
        let text = answer.text().replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("://"), "{path} names another host");
    }
}

#[test]
fn a_large_example_is_left_out() {
    let image = serde_json::json!({ "inputs": [["x", "FP32", [null, 3, 224, 224]]] });
    let server = Setup::scripted(image).start();
    let document = document(&server);
    let media =
        &document["paths"]["/predict/m"]["post"]["requestBody"]["content"]["application/json"];
    assert!(media["schema"].is_object());
    assert_eq!(media.get("examples"), None);
}
