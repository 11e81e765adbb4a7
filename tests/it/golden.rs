//! Golden requests beside a model: what does not answer them as its owner expects never serves.

mod tool;

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::eventually;
use crate::support::planted::Habit::{self, *};
use crate::support::server::{Setup, TestServer};

/// A model that answers fractions and whole numbers as they came.
fn script() -> Value {
    json!({ "inputs": [["x", "FP32", [null]], ["label", "INT64", [null]]] })
}

/// A golden request with these fractions and whole numbers, of which others may be expected.
fn golden(sent: (f64, i64), expected: (f64, i64)) -> Value {
    let tensors = |suffix: &str, (x, label): (f64, i64)| {
        json!([
            { "name": format!("x{suffix}"), "datatype": "FP32", "shape": [1], "data": [x] },
            { "name": format!("label{suffix}"), "datatype": "INT64", "shape": [1], "data": [label] },
        ])
    };
    json!({
        "request": { "inputs": tensors("", sent) },
        "response": { "outputs": tensors("_out", expected) },
    })
}

fn right() -> Value {
    golden((0.5, 7), (0.5, 7))
}

fn wrong() -> Value {
    golden((0.5, 7), (0.5, 8))
}

const WRONG: &str =
    "golden/a.json: output 'label_out': element [0]: expected 8, got 7 (1 of 1 elements differ)";

/// One model `m` with this golden request, on engines with these habits.
fn setup(golden: impl ToString, engines: &[(&'static str, Habit)]) -> Setup {
    Setup::scripted(script())
        .file("m/1/golden/a.json", golden.to_string())
        .engines(engines)
}

const TWO: [(&str, Habit); 2] = [("tract", Honest), ("rten", Honest)];
const ONE_LIES: [(&str, Habit); 2] = [("tract", Lies(1)), ("rten", Honest)];

fn ask(server: &TestServer) -> Answer {
    let body = json!({ "inputs": { "x": [1.5], "label": [3] } });
    server.post("/predict/m", body.to_string())
}

/// What `/health` says of the model.
fn model(server: &TestServer) -> Value {
    server.get("/health").json()["models"][0].take()
}

fn state(server: &TestServer, version: &str, state: &str) -> Option<f64> {
    server.metric(&format!(
        "onnxd_model_state{{model=\"m\",state=\"{state}\",version=\"{version}\"}}"
    ))
}

/// Each engine's name and standing.
fn standings(server: &TestServer) -> Vec<(String, String)> {
    let model = model(server);
    let findings = model["engines"].as_array().expect("there are findings");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let standing = |finding: &Value| (text(&finding["name"]), text(&finding["standing"]));
    findings.iter().map(standing).collect()
}

#[track_caller]
fn check_standings(server: &TestServer, expected: &[(&str, &str)]) {
    let found = standings(server);
    let found: Vec<_> = found
        .iter()
        .map(|(name, standing)| (name.as_str(), standing.as_str()))
        .collect();
    assert_eq!(found, expected);
}

/// Checks that the model is failed for this reason, on every face that tells.
#[track_caller]
fn check_failed(server: &TestServer, reason: &str) {
    let health = model(server);
    assert_eq!(health["state"], "failed", "{health}");
    let index = server.post("/v2/repository/index", "{}").ok();
    assert_eq!(index[0]["state"], "UNAVAILABLE");
    for told in [&health["reason"], &index[0]["reason"]] {
        let told = told.as_str().expect("there is a reason");
        assert!(told.contains(reason), "{told}");
    }
    assert_eq!(state(server, "1", "failed"), Some(1.0));
    assert_eq!(state(server, "1", "ready"), Some(0.0));
    let answer = ask(server);
    assert_eq!(answer.status, 503);
    assert!(answer.error().contains(reason), "{answer:?}");
}

#[test]
fn what_answers_as_expected_serves_and_says_so() {
    for engines in [&TWO[..], &TWO[..1]] {
        let server = setup(right(), engines).start();
        assert_eq!(ask(&server).ok()["outputs"]["label_out"], json!([3]));
        let reason = model(&server)["engines"][0]["reason"].take();
        let reason = reason.as_str().expect("there is a reason");
        assert!(
            reason.ends_with("; 1 golden request as expected"),
            "{reason}"
        );
    }
}

#[test]
fn what_answers_otherwise_never_serves_and_every_face_tells_why() {
    for engines in [&TWO[..], &TWO[..1]] {
        check_failed(&setup(wrong(), engines).start_loaded(), WRONG);
    }
}

#[test]
fn neither_a_warning_nor_a_named_engine_serves_what_is_disproven() {
    for (manifest, serves) in [
        ("engine_agreement = \"warn\"", "rten"),
        ("engine = \"rten\"", "rten"),
    ] {
        let server = setup(right(), &ONE_LIES)
            .file("m/model.toml", manifest)
            .start();
        assert_eq!(model(&server)["engine"], serves);
        assert_eq!(ask(&server).ok()["outputs"]["label_out"], json!([3]));
    }
    let named = setup(right(), &ONE_LIES).file("m/model.toml", "engine = \"tract\"");
    check_failed(&named.start_loaded(), "expected 7, got 8");
    let warned = setup(wrong(), &TWO).file("m/model.toml", "engine_agreement = \"warn\"");
    check_failed(&warned.start_loaded(), WRONG);
}

#[test]
fn a_golden_request_decides_between_engines_that_differ() {
    let server = setup(right(), &ONE_LIES).start();
    check_standings(&server, &[("tract", "disproven"), ("rten", "alone")]);
    assert_eq!(ask(&server).ok()["outputs"]["label_out"], json!([3]));
    // Without it nothing decides.
    let server = Setup::scripted(script()).engines(&ONE_LIES).start_loaded();
    assert_eq!(ask(&server).status, 501);
}

#[test]
fn one_that_answers_as_expected_outweighs_two_that_agree() {
    let engines = [
        ("tract", Lies(1)),
        ("rten", Lies(1)),
        ("onnxruntime", Honest),
    ];
    let server = setup(right(), &engines).start();
    check_standings(
        &server,
        &[
            ("tract", "disproven"),
            ("rten", "disproven"),
            ("onnxruntime", "alone"),
        ],
    );
}

#[test]
fn an_engine_that_fails_on_a_golden_request_does_not_serve() {
    for habit in [FailsOn(1), PanicsOnRun, LeavesOut, LiesInShape] {
        let server = setup(right(), &[("tract", habit), ("rten", Honest)]).start();
        check_standings(&server, &[("tract", "disproven"), ("rten", "alone")]);
    }
}

#[test]
fn an_engine_takes_no_others_place_before_it_has_answered_them_here_too() {
    static LOADS: AtomicUsize = AtomicUsize::new(0);
    // Honest while it is examined.
    let is_loaded_again = || LOADS.fetch_add(1, Ordering::Relaxed) > 0;
    let slow = Takes(|_, _| Duration::from_millis(5));
    let engines = [("tract", slow), ("rten", LiesWhen(is_loaded_again))];
    let server = setup(right(), &engines).start();
    check_standings(&server, &[("tract", "agrees"), ("rten", "agrees")]);
    eventually("it is loaded to be measured", || {
        LOADS.load(Ordering::Relaxed) > 1
    });
    for _ in 0..100 {
        assert_eq!(ask(&server).ok()["outputs"]["label_out"], json!([3]));
    }
    assert_eq!(model(&server)["engine"], "tract");
}

#[test]
fn an_engine_takes_no_others_place_with_files_that_nobody_examined() {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    static LOADS: AtomicUsize = AtomicUsize::new(0);
    // What is beside the model is changed while the engine reads it to be measured.
    let changes_files = || {
        if LOADS.fetch_add(1, Ordering::Relaxed) > 0 {
            let place = PLACE.get().expect("it is set before the start");
            fs::write(place, "others").expect("a temporary file");
        }
        false
    };
    let slow = Takes(|_, _| Duration::from_millis(5));
    let setup = setup(
        right(),
        &[("tract", slow), ("rten", LiesWhen(changes_files))],
    )
    .with("repository.mode", "explicit");
    let place = setup.folder().join("m/1/weights.data");
    PLACE.set(place).expect("it is set once");
    let server = setup.start();
    eventually("it is loaded to be measured", || {
        LOADS.load(Ordering::Relaxed) > 1
    });
    for _ in 0..400 {
        ask(&server).ok();
    }
    assert_eq!(model(&server)["engine"], "tract");
}

#[test]
fn a_newer_version_that_answers_otherwise_leaves_the_older_one_in_place() {
    let server = Setup::scripted(script())
        .with("repository.mode", "explicit")
        .file("m/1/golden/a.json", right().to_string())
        .start();
    server.put_model("m/2", &script());
    server.put("m/2/golden/a.json", &wrong().to_string());
    let load = || server.post("/v2/repository/models/m/load", "{}");
    let refused = load();
    assert_eq!(refused.status, 503);
    assert!(refused.error().contains(WRONG), "{refused:?}");
    assert_eq!(ask(&server).ok()["model_version"], "1");
    assert_eq!(state(&server, "2", "failed"), Some(1.0));
    // Its owner mends it.
    server.put("m/2/golden/a.json", &right().to_string());
    load().ok();
    assert_eq!(ask(&server).ok()["model_version"], "2");
}

#[test]
fn a_version_that_serves_goes_on_when_its_golden_requests_turn_against_it() {
    let server = Setup::scripted(script())
        .with("repository.mode", "explicit")
        .start();
    server.put("m/1/golden/a.json", &wrong().to_string());
    assert_eq!(
        server.post("/v2/repository/models/m/load", "{}").status,
        503
    );
    assert_eq!(ask(&server).ok()["model_version"], "1");
}

#[test]
fn the_tolerance_of_the_file_wins_over_the_models_over_the_default() {
    let apart = |by: f64| golden((1.0, 7), (1.0 + by, 7));
    let with = |tolerance: Value, by| {
        let mut golden = apart(by);
        golden["tolerance"] = tolerance;
        golden
    };
    let manifest = "golden_tolerance = { absolute = 0.1 }";
    for (golden, manifest, serves) in [
        (apart(0.00009), "", true),
        (apart(0.0002), "", false),
        (apart(0.099), manifest, true),
        (apart(0.101), manifest, false),
        (with(json!(0.2), 0.3), manifest, true),
        (with(json!({ "relative": 0.01 }), 0.05), manifest, false),
        (apart(0.4), "golden_tolerance = 0.2", true),
    ] {
        let told = format!("{golden} {manifest}");
        let server = setup(golden, &TWO)
            .file("m/model.toml", manifest)
            .start_loaded();
        let state = model(&server)["state"].take();
        assert_eq!(state == "ready", serves, "{told}: {state}");
    }
}

#[test]
fn what_is_no_number_or_infinite_can_be_expected() {
    for number in ["NaN", "Infinity", "-Infinity"] {
        let expecting = |number: &str| {
            format!(
                r#"{{"request": {{"inputs": [
                    {{"name": "x", "datatype": "FP32", "shape": [1], "data": [{number}]}},
                    {{"name": "label", "datatype": "INT64", "shape": [1], "data": [1]}}]}},
                   "response": {{"outputs": [
                    {{"name": "x_out", "datatype": "FP32", "shape": [1], "data": [{number}]}}]}}}}"#
            )
        };
        let right = expecting(number);
        let server = setup(&right, &TWO).start();
        assert_eq!(model(&server)["state"], "ready");
        let (request, response) = right.split_once("response").expect("it has both");
        let wrong = format!("{request}response{}", response.replace(number, "0.5"));
        check_failed(
            &setup(wrong, &TWO).start_loaded(),
            "output 'x_out': element [0]: expected 0.5, got ",
        );
    }
}

#[test]
fn a_golden_request_that_is_none_is_named_with_what_is_wrong() {
    let mut of_another_shape = right();
    of_another_shape["request"]["inputs"][0]["shape"] = json!([1, 1]);
    let mut of_another_output = right();
    of_another_output["response"]["outputs"][0]["name"] = json!("y");
    for (text, reason) in [
        (
            String::new(),
            "golden/a.json: expected {\"request\", \"response\"}",
        ),
        (
            of_another_shape.to_string(),
            "golden/a.json: request: input 'x': expected shape [-1], got [1,1]",
        ),
        (
            of_another_output.to_string(),
            "golden/a.json: response: unknown output 'y'; the model's outputs are 'x_out', 'label_out'",
        ),
        (
            right().to_string().replace("response", "answer"),
            "golden/a.json: expected {\"request\", \"response\"}: unknown field `answer`",
        ),
    ] {
        check_failed(&setup(text, &TWO).start_loaded(), reason);
    }
}

#[test]
fn what_is_in_a_golden_folder_is_bounded() {
    let many = (0..65).fold(setup(right(), &TWO), |setup, at| {
        setup.file(&format!("m/1/golden/{at}.json"), right().to_string())
    });
    check_failed(
        &many.start_loaded(),
        "there are 66 golden requests, more than the 64",
    );
    let long = setup(" ".repeat((16 << 20) + 1), &TWO);
    check_failed(
        &long.start_loaded(),
        "golden/a.json: it has more than 16777216 bytes",
    );
}

#[test]
fn other_files_in_a_golden_folder_are_passed_over() {
    let server = setup(right(), &TWO)
        .file("m/1/golden/README.md", "how they were made")
        .file("m/1/golden/.hidden.json", "")
        .start();
    assert_eq!(model(&server)["state"], "ready");
}

#[test]
fn a_model_without_version_folders_has_them_beside_its_file() {
    let server = Setup::empty()
        .file("m/model.onnx", script().to_string())
        .file("m/golden/a.json", wrong().to_string())
        .start_loaded();
    check_failed(&server, WRONG);
}
