//! The commands beside the server: look into a model, run it once, ask a server for its health.

use expect_test::expect;
use serde_json::{Value, json};

use crate::support::in_repository;
use crate::support::process::Onnxd;
use crate::support::server::{Setup, bundled};

fn iris() -> String {
    in_repository("models/iris/2/model.onnx")
        .to_string_lossy()
        .into_owned()
}

#[test]
fn inspect_describes_a_model() {
    let report = Onnxd::new(["inspect", "--json", &iris()]).run();
    let report: Value = serde_json::from_str(report.ok()).expect("it is JSON");
    let mut stable = report.clone();
    // These change whenever the model is trained anew.
    for changing in ["producer", "ir_version", "opsets", "operators"] {
        stable[changing].take();
    }
    // This one is measured.
    let compared = stable["engines"][0]["tried"][1]["seen"].take();
    assert!(
        compared
            .as_str()
            .is_some_and(|seen| seen.contains("the plan for every shape")),
        "{compared}"
    );
    expect![[r#"
        {
          "producer": null,
          "ir_version": null,
          "opsets": null,
          "operators": null,
          "inputs": [
            {
              "name": "features",
              "datatype": "FP32",
              "shape": [
                -1,
                4
              ]
            }
          ],
          "outputs": [
            {
              "name": "label",
              "datatype": "INT64",
              "shape": [
                -1
              ]
            },
            {
              "name": "probabilities",
              "datatype": "FP32",
              "shape": [
                -1,
                3
              ]
            }
          ],
          "engines": [
            {
              "name": "tract",
              "serves": true,
              "runs_example": true,
              "tried": [
                {
                  "what": "one plan for every shape",
                  "does": true,
                  "seen": "made"
                },
                {
                  "what": "plans for concrete shapes",
                  "does": true,
                  "seen": null
                }
              ],
              "requests_join": true
            }
          ],
          "example": {
            "inputs": [
              {
                "name": "features",
                "datatype": "FP32",
                "shape": [
                  1,
                  4
                ],
                "data": [
                  0.0,
                  0.0,
                  0.0,
                  0.0
                ]
              }
            ]
          }
        }"#]]
    .assert_eq(&format!("{stable:#}"));
    assert!(
        report["operators"]["MatMul"]
            .as_u64()
            .is_some_and(|count| count > 0)
    );
}

#[test]
fn the_example_is_a_request_that_the_server_takes() {
    let example = Onnxd::new(["inspect", "--example", &iris()]).run();
    for path in ["/predict/iris", "/v2/models/iris/infer"] {
        bundled().post(path, example.ok()).ok();
    }
    let report = Onnxd::new(["inspect", &iris()]).run();
    assert!(
        report.ok().contains(example.stdout.trim()),
        "{}",
        report.stdout
    );
}

#[test]
fn inspect_fails_for_what_is_no_model() {
    let onnxd = Onnxd::new(["inspect", "broken.onnx"]).file("broken.onnx", "not a model");
    let finished = onnxd.run();
    assert_eq!(finished.code, Some(1));
    assert!(
        finished
            .stderr
            .starts_with("onnxd: the file is not an ONNX model"),
        "{finished:?}"
    );
    let finished = Onnxd::new(["inspect", "nowhere.onnx"]).run();
    assert_eq!(finished.code, Some(1));
    assert!(
        finished
            .stderr
            .starts_with("onnxd: cannot read nowhere.onnx"),
        "{finished:?}"
    );
}

const ROW: &str = r#"{"instances": [[5.1,3.5,1.4,0.2]], "id": "7"}"#;

#[test]
fn predict_answers_as_the_server_does() {
    let answer = Onnxd::new(["predict", &iris(), "--json", "--input", "request.json"])
        .file("request.json", ROW)
        .run();
    let answer: Value = serde_json::from_str(answer.ok()).expect("it is JSON");
    let served = bundled().post("/predict/iris/2", ROW).ok();
    for output in ["label", "probabilities"] {
        assert_eq!(
            answer["predictions"][0][output],
            served["predictions"][0][output]
        );
    }
    assert_eq!(answer["id"], "7");
}

#[test]
fn predict_reads_standard_input_and_prints_for_people() {
    let finished = Onnxd::new(["predict", &iris(), "--input", "-"]).run_on(ROW);
    let lines: Vec<_> = finished.ok().lines().collect();
    assert_eq!(lines[0], "label (INT64 [1]): [0]");
    assert!(
        lines[1].starts_with("probabilities (FP32 [1,3]): [[0."),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 2);
}

#[test]
fn predict_keeps_the_order_in_which_outputs_are_asked_for() {
    let request = json!({
        "inputs": [{ "name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2] }],
        "outputs": [{ "name": "probabilities" }, { "name": "label" }],
    });
    let finished =
        Onnxd::new(["predict", &iris(), "--json", "--input", "-"]).run_on(&request.to_string());
    let answer: Value = serde_json::from_str(finished.ok()).expect("it is JSON");
    let names = [&answer["outputs"][0]["name"], &answer["outputs"][1]["name"]];
    assert_eq!(names, ["probabilities", "label"]);
}

#[test]
fn predict_says_what_is_wrong_with_a_request() {
    let finished =
        Onnxd::new(["predict", &iris(), "--input", "-"]).run_on(r#"{"instances": [[1]]}"#);
    assert_eq!(finished.code, Some(1));
    assert_eq!(
        finished.stderr,
        "onnxd: input 'features': expected shape [-1,4], got [1,1]\n"
    );
}

#[test]
fn health_succeeds_when_the_server_is_ready() {
    let port = bundled().address.port().to_string();
    let finished = Onnxd::new(["health", "--port", &port]).run();
    assert_eq!(finished.ok(), "{\"status\":\"ready\"}\n");
    let url = format!("http://{}/v2/health/live", bundled().address);
    assert_eq!(Onnxd::new(["health", &url]).run().ok(), "{\"live\":true}\n");
}

#[test]
fn health_fails_otherwise_and_says_why() {
    let check = |argument: &str, reason: &str| {
        let finished = Onnxd::new(["health", argument]).run();
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(reason), "{finished:?}");
        finished
    };
    let empty = Setup::empty().start_loaded();
    let url = format!("http://{}/health/ready", empty.address);
    let finished = check(&url, "503");
    assert!(
        finished.stdout.contains("the repository is empty"),
        "{finished:?}"
    );
    let closed = format!("http://{}/", free_address());
    check(&closed, "cannot reach");
    check("https://localhost/", "expected a URL such as");
    check("nonsense", "expected a URL such as");
}

/// An address where nobody listens.
fn free_address() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener
        .local_addr()
        .expect("a bound socket has an address")
}
