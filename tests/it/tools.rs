//! The commands beside the server: look into a model, run it once, ask a server for its health.

use expect_test::expect;
use serde_json::{Value, json};

use crate::support::in_repository;
use crate::support::onnx::{self, Node};
use crate::support::process::Onnxd;
use crate::support::server::{Setup, bundled};

fn iris() -> String {
    in_repository("models/iris/2/model.onnx")
        .to_string_lossy()
        .into_owned()
}

#[test]
fn inspect_describes_a_model() {
    let report = Onnxd::new(["inspect", "--json", &iris()])
        .with("ONNXD_INFERENCE__ENGINE", "tract")
        .run();
    let report: Value = serde_json::from_str(report.ok()).expect("it is JSON");
    let mut stable = report.clone();
    // These change whenever the model is trained anew.
    for changing in ["producer", "ir_version", "opsets", "operators"] {
        stable[changing].take();
    }
    // These are measured.
    let load_seconds = stable["engines"][0]["load_seconds"].take();
    assert!(load_seconds.as_f64().is_some_and(|seconds| seconds > 0.0));
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
          "engine": "tract",
          "engines": [
            {
              "name": "tract",
              "serves": true,
              "standing": "alone",
              "reason": "no other engine was asked",
              "runs_example": true,
              "load_seconds": null,
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
fn inspect_measures_every_engine() {
    let report = Onnxd::new(["inspect", "--json", "--engines", &iris()]).run();
    let report: Value = serde_json::from_str(report.ok()).expect("it is JSON");
    let engines = report["engines"].as_array().expect("a list");
    let first = engines
        .iter()
        .find(|engine| engine["requests_join"] == true);
    assert_eq!(first.expect("one serves")["name"], report["engine"]);
    for engine in engines {
        let reason = engine["reason"].as_str();
        assert!(reason.is_some_and(|reason| !reason.is_empty()), "{engine}");
        let measured = engine["measured"].as_array().expect("a list");
        let rows: Vec<_> = measured.iter().map(|one| one["rows"].clone()).collect();
        match engine["serves"] == true {
            true => assert_eq!(rows, [1, 8]),
            false => assert!(rows.is_empty(), "{engine}"),
        }
        for one in measured {
            let milliseconds = one["milliseconds"].as_f64();
            assert!(milliseconds.is_some_and(|time| time > 0.0), "{engine}");
        }
    }
    let report = Onnxd::new(["inspect", "--engines", &iris()]).run();
    let table: Vec<_> = report
        .ok()
        .lines()
        .skip_while(|line| !line.starts_with("  engines    name "))
        .take(engines.len() + 1)
        .collect();
    for (line, engine) in table[1..].iter().zip(engines) {
        for key in ["name", "standing", "reason"] {
            // The largest difference and other numbers are not the same in every run.
            let text = engine[key].as_str().expect("it is text");
            let start = text.split(':').next().unwrap_or_default();
            assert!(line.contains(start), "{line} lacks {start}");
        }
    }
}

#[test]
fn inspect_measures_batches() {
    let report = Onnxd::new(["inspect", "--json", "--measure", &iris()]).run();
    let report: Value = serde_json::from_str(report.ok()).expect("it is JSON");
    let batches = &report["batches"];
    let measured = batches["measured"].as_array().expect("a list");
    let serving = report["engines"].as_array().expect("a list").iter();
    let serving: Vec<_> = serving.filter(|engine| engine["serves"] == true).collect();
    for engine in serving {
        let is_measured = measured.iter().any(|one| one["engine"] == engine["name"]);
        assert!(is_measured, "{engine} is not in {batches}");
    }
    for one in measured {
        let curve = one["curve"].as_array().expect("a list");
        let rows: Vec<_> = curve.iter().map(|at| at["rows"].as_u64()).collect();
        assert!(rows.starts_with(&[Some(1), Some(2), Some(4)]), "{one}");
        assert!(rows.contains(&one["batch_rows"].as_u64()), "{one}");
        for at in curve {
            let (run, row) = (
                at["milliseconds"].as_f64(),
                at["microseconds_a_row"].as_f64(),
            );
            assert!(run > Some(0.0) && row > Some(0.0), "{one}");
        }
    }
    let reason = batches["choice"]["reason"].as_str();
    assert!(reason.is_some_and(|reason| !reason.is_empty()), "{batches}");
    let report = Onnxd::new(["inspect", "--measure", &iris()]).run();
    let told = report.ok();
    assert!(
        told.contains("\n  batches    engine ") && told.contains("\n  choice     "),
        "{told}"
    );
}

#[test]
fn inspect_says_why_requests_are_not_joined() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("fixed.onnx");
    let model = onnx::model(&[Node("Add", &["x", "x"], "y")]);
    std::fs::write(&file, model).expect("the folder is writable");
    let file = file.to_string_lossy().into_owned();
    let report = Onnxd::new(["inspect", "--json", "--measure", &file]).run();
    let report: Value = serde_json::from_str(report.ok()).expect("it is JSON");
    let choice = &report["batches"]["choice"];
    assert_eq!(choice["batch_rows"], 1);
    let reason = choice["reason"].as_str().expect("text");
    assert!(
        reason.starts_with("requests cannot be joined: "),
        "{reason}"
    );
    assert_eq!(choice["curve"].as_array().map(Vec::len), Some(1));
}

#[test]
fn inspect_fails_for_what_no_engine_runs() {
    let unknown = onnx::model(&[Node("Frobnicate", &["x"], "y")]);
    let finished = Onnxd::new(["inspect", "--engines", "unknown.onnx"])
        .file("unknown.onnx", unknown)
        .run();
    assert_eq!(finished.code, Some(1), "{finished:?}");
    for text in [&finished.stdout, &finished.stderr] {
        assert!(text.contains("Frobnicate"), "{finished:?}");
    }
    assert!(
        finished.stdout.contains("  engine     none: "),
        "{finished:?}"
    );
}

#[test]
fn commands_on_models_refuse_settings_that_are_not_valid() {
    for arguments in [
        &["inspect", &iris()][..],
        &["predict", &iris(), "--input", "-"],
    ] {
        let finished = Onnxd::new(arguments)
            .with("ONNXD_INFERENCE__ENGINE", "steam")
            .run();
        assert_eq!(finished.code, Some(64), "{finished:?}");
        assert!(finished.stderr.contains("inference.engine"), "{finished:?}");
    }
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
    let (here, there) = (&answer["predictions"][0], &served["predictions"][0]);
    assert_eq!(here["label"], there["label"]);
    let probabilities = |of: &Value| -> Vec<f64> {
        let values = of["probabilities"].as_array().expect("a list");
        values.iter().filter_map(Value::as_f64).collect()
    };
    let (here, there) = (probabilities(here), probabilities(there));
    assert_eq!((here.len(), there.len()), (3, 3));
    // Other tests ask this server too, and what runs together is added up in another order.
    let differs = |(here, there): (&f64, &f64)| (here - there).abs() > 1e-6;
    assert!(
        !here.iter().zip(&there).any(differs),
        "{here:?} and {there:?}"
    );
    assert_eq!(answer["id"], "7");
}

#[test]
fn predict_runs_on_the_engine_that_is_named() {
    let predict = ["predict", &iris(), "--input", "-", "--engine"];
    let on = |engine: &'static str| Onnxd::new(predict.iter().copied().chain([engine]));
    let expected = on("auto").run_on(ROW);
    assert_eq!(on("tract").run_on(ROW).ok(), expected.ok());
    let missing = on("onnxruntime").with("ONNXD_INFERENCE__ONNXRUNTIME", "off");
    let finished = missing.run_on(ROW);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let reason = "onnxd: engine 'onnxruntime' is not there; this server has ";
    assert!(finished.stderr.starts_with(reason), "{finished:?}");
    let finished = on("steam").run_on(ROW);
    assert_eq!(finished.code, Some(2), "{finished:?}");
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
