//! Metadata of the Open Inference Protocol, to the letter, and the page for people.

use expect_test::{Expect, expect};

use crate::support::samples::samples;
use crate::support::server::bundled;

#[track_caller]
fn check(path: &str, expected: Expect) {
    let answer = bundled().get(path);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    expected.assert_eq(answer.text());
}

#[test]
fn the_server_describes_itself() {
    let version = env!("CARGO_PKG_VERSION");
    let extensions = r#"["binary_tensor_data","classification","model_configuration","model_repository","parameters","schedule_policy","statistics"]"#;
    let expected = format!(r#"{{"name":"onnxd","version":"{version}","extensions":{extensions}}}"#);
    assert_eq!(bundled().get("/v2").text(), expected);
}

#[test]
fn the_models_are_listed() {
    check(
        "/v2/models",
        expect![[r#"{"models":["digits","iris","wine"]}"#]],
    );
}

#[test]
fn a_model_describes_itself() {
    check(
        "/v2/models/iris",
        expect![[
            r#"{"name":"iris","versions":["1","2"],"platform":"onnx_onnxv1","inputs":[{"name":"features","datatype":"FP32","shape":[-1,4]}],"outputs":[{"name":"label","datatype":"INT64","shape":[-1]},{"name":"probabilities","datatype":"FP32","shape":[-1,3]}],"parameters":{"engine":"tract","engine_reason":"no other engine was asked; 2 golden requests as expected"}}"#
        ]],
    );
    check(
        "/v2/models/wine",
        expect![[
            r#"{"name":"wine","versions":["1"],"platform":"onnx_onnxv1","inputs":[{"name":"features","datatype":"FP32","shape":[-1,13]}],"outputs":[{"name":"label","datatype":"BYTES","shape":[-1]},{"name":"probabilities","datatype":"FP32","shape":[-1,3]}],"parameters":{"engine":"tract","engine_reason":"no other engine was asked; 2 golden requests as expected"}}"#
        ]],
    );
    let whole = bundled().get("/v2/models/iris");
    for version in ["1", "2", "v2"] {
        let one = bundled().get(&format!("/v2/models/iris/versions/{version}"));
        assert_eq!(
            one.text(),
            whole.text(),
            "both versions take and give the same"
        );
    }
}

#[test]
fn a_model_tells_its_readiness() {
    for path in ["/v2/models/iris/ready", "/v2/models/iris/versions/1/ready"] {
        let answer = bundled().get(path);
        assert_eq!(
            (answer.status, answer.text()),
            (200, r#"{"name":"iris","ready":true}"#)
        );
    }
}

#[test]
fn dimensions_that_vary_are_minus_one() {
    let shapes = |model: &str| {
        let metadata = samples().get(&format!("/v2/models/{model}")).ok();
        let inputs = metadata["inputs"].as_array().expect("a list of tensors");
        inputs
            .iter()
            .map(|input| input["shape"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(shapes("pair"), ["[-1,2]", "[-1]"]);
    assert_eq!(
        shapes("bytes"),
        ["[-1]"],
        "not even the number of dimensions is known"
    );
}

#[test]
fn the_page_at_the_root_shows_the_models() {
    let page = bundled().get("/");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    for text in [
        "This server is <span class=\"good\">ready</span>",
        "<strong>iris</strong></a><span class=\"muted\">version 2</span>",
        "<strong>digits</strong></a><span class=\"muted\">version 1</span>",
        "<strong>wine</strong></a><span class=\"muted\">version 1</span>",
        "href=\"docs\"",
    ] {
        assert!(page.text().contains(text), "{text}: {}", page.text());
    }
}
