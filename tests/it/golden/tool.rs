//! `onnxd golden`: what it records is what the server replays.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::client::{Connection, Request};
use crate::support::in_repository;
use crate::support::process::{Finished, Onnxd};
use crate::support::server::{Setup, bundled};

fn golden(arguments: &[&str]) -> Finished {
    Onnxd::new(["golden"].iter().chain(arguments))
        .with("ONNXD_INFERENCE__ONNXRUNTIME", "off")
        .run()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The model `m` in version 1, whose golden requests are to be made.
struct Fixture {
    folder: TempDir,
}

impl Fixture {
    fn of(bundled: &str) -> Fixture {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let version = folder.path().join("m/1");
        fs::create_dir_all(&version).expect("a temporary folder");
        let from = in_repository("models").join(bundled).join("model.onnx");
        fs::copy(from, version.join("model.onnx")).expect("the bundled model is there");
        Fixture { folder }
    }

    fn model(&self) -> String {
        text(&self.folder.path().join("m"))
    }

    fn file(&self) -> String {
        format!("{}/1/model.onnx", self.model())
    }

    fn put(&self, path: &str, contents: &str) -> String {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("a temporary folder");
        fs::write(&path, contents).expect("a temporary file");
        text(&path)
    }

    fn golden(&self, name: &str) -> String {
        let path = format!("{}/1/golden/{name}", self.model());
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(format!("{}/1/golden", self.model()));
        let entries = entries.expect("there are golden requests").flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn what_is_recorded_of_a_file_is_checked_and_served() {
    for model in ["iris/1", "iris/2", "digits/2", "wine/1"] {
        let fixture = Fixture::of(model);
        golden(&["record", &fixture.file()]).ok();
        let names = [
            "made-up-01.json",
            "made-up-02.json",
            "made-up-03.json",
            "made-up-04.json",
        ];
        assert_eq!(fixture.names(), names);
        let checked = golden(&["check", &fixture.model()]);
        assert!(
            checked.ok().contains("4 golden requests as expected"),
            "{checked:?}"
        );
    }
}

#[test]
fn requests_may_be_written_in_any_style() {
    let fixture = Fixture::of("iris/2");
    let requests = fixture.put(
        "flowers.jsonl",
        r#"{"instances": [[5.1, 3.5, 1.4, 0.2]], "id": "a"}
           {"inputs": {"features": [[NaN, 1, Infinity, 2]]}}
           {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}],
            "outputs": [{"name": "label"}]}"#,
    );
    golden(&["record", &fixture.file(), "--requests", &requests]).ok();
    assert_eq!(
        fixture.names(),
        ["flowers-01.json", "flowers-02.json", "flowers-03.json"]
    );
    assert!(
        fixture
            .golden("flowers-02.json")
            .contains("NaN,1.0,Infinity,2.0")
    );
    let only_label: Value = serde_json::from_str(&fixture.golden("flowers-03.json")).expect("JSON");
    let outputs = only_label["response"]["outputs"]
        .as_array()
        .expect("a list");
    assert_eq!((outputs.len(), &outputs[0]["name"]), (1, &json!("label")));
    golden(&["check", &fixture.model()]).ok();
}

#[test]
fn golden_requests_can_be_recorded_anew_and_are_never_overwritten_unasked() {
    let fixture = Fixture::of("iris/2");
    let folder = in_repository("models/iris/1/golden");
    let arguments = ["record", &fixture.file(), "--requests", &text(&folder)];
    golden(&arguments).ok();
    let of_version_1 = fs::read_to_string(folder.join("one-row.json")).expect("it is there");
    let of_version_2 = fixture.golden("one-row.json");
    assert_ne!(of_version_1, of_version_2);
    let request = |text: &str| text.lines().next().map(str::to_owned);
    assert_eq!(
        request(&of_version_1).map(|line| line.len()),
        request(&of_version_2).map(|line| line.len())
    );
    fixture.put("m/1/golden/one-row.json", "mine");
    let refused = golden(&arguments);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("already has"), "{refused:?}");
    assert!(refused.stderr.contains("one-row.json"), "{refused:?}");
    assert_eq!(fixture.golden("one-row.json"), "mine");
    golden(&[&arguments[..], &["--force"]].concat()).ok();
    assert_eq!(fixture.golden("one-row.json"), of_version_2);
}

#[test]
fn a_server_is_recorded_as_a_file_is() {
    let url = format!("http://{}", bundled().address);
    for (model, version) in [("iris", "2"), ("wine", "1")] {
        let fixture = Fixture::of(&format!("{model}/{version}"));
        let from = text(&in_repository(&format!("models/{model}/{version}/golden")));
        let out = format!("{}/1/golden", fixture.model());
        let server = [
            "record",
            "--url",
            &url,
            "--model",
            model,
            "--version",
            version,
        ];
        golden(
            &[
                &server[..],
                &["--requests", &from, "--made-up", "2", "--out", &out],
            ]
            .concat(),
        )
        .ok();
        let names = [
            "made-up-01.json",
            "made-up-02.json",
            "one-row.json",
            "three-rows.json",
        ];
        assert_eq!(fixture.names(), names);
        golden(&["check", &fixture.model()]).ok();
        let by_server: Vec<_> = names.iter().map(|name| fixture.golden(name)).collect();
        let file = fixture.file();
        golden(&[
            "record",
            &file,
            "--requests",
            &from,
            "--made-up",
            "2",
            "--force",
        ])
        .ok();
        let by_file: Vec<_> = names.iter().map(|name| fixture.golden(name)).collect();
        assert_eq!(by_server, by_file);
    }
}

#[test]
fn a_server_s_odd_numbers_are_recorded_as_they_are() {
    let script = json!({ "inputs": [["x", "FP32", [null]]] });
    let server = Setup::scripted(script).start();
    let fixture = Fixture::of("iris/1");
    let requests = fixture.put("odd.json", r#"{"inputs": [NaN, Infinity, -Infinity, 0.5]}"#);
    let url = format!("http://{}/", server.address);
    let out = format!("{}/1/golden", fixture.model());
    golden(&[
        "record",
        "--url",
        &url,
        "--model",
        "m",
        "--requests",
        &requests,
        "--out",
        &out,
    ])
    .ok();
    let expected = r#""response":{"outputs":[{"name":"x_out","datatype":"FP32","shape":[4],"data":[NaN,Infinity,-Infinity,0.5]}]}"#;
    assert!(fixture.golden("odd.json").contains(expected));
}

#[test]
fn mistakes_are_told_and_leave_nothing_behind() {
    let fixture = Fixture::of("iris/2");
    let bad = fixture.put(
        "bad.jsonl",
        "{\"instances\": [[1, 2, 3, 4]]}\n{\"instances\": [[1]]}",
    );
    let broken = fixture.put("broken.json", "{");
    let empty = fixture.put("empty.json", " ");
    let elsewhere = fixture.put("else/iris.onnx", "");
    let closed = "http://127.0.0.1:1";
    let unknown = format!("http://{}", bundled().address);
    let file = fixture.file();
    for (arguments, reason) in [
        (
            vec!["record", &file, "--requests", &bad],
            "bad-02: input 'features': expected shape",
        ),
        (
            vec!["record", &file, "--requests", &broken],
            "broken.json is not valid JSON",
        ),
        (
            vec!["record", &file, "--requests", &empty],
            "there is no request in",
        ),
        (
            vec!["record", &file, "--requests", "/no/such"],
            "cannot read /no/such",
        ),
        (vec!["record", &elsewhere], "--out is missing"),
        (
            vec!["record", "--url", closed, "--model", "m", "--out", "x"],
            "cannot reach",
        ),
        (
            vec!["record", "--url", &unknown, "--model", "m", "--out", "x"],
            "404",
        ),
        (vec!["check", "/no/such"], "cannot read /no/such"),
        (
            vec!["check", &fixture.model()],
            "there are no golden requests in",
        ),
    ] {
        let finished = golden(&arguments);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains(reason), "{reason}: {finished:?}");
    }
    assert!(!Path::new(&fixture.model()).join("1/golden").exists());
}

#[test]
fn check_tells_which_version_would_not_serve_and_why() {
    let fixture = Fixture::of("iris/2");
    golden(&["record", &fixture.file()]).ok();
    let wrong = fixture
        .golden("made-up-01.json")
        .replace("\"data\":[0]", "\"data\":[2]");
    fixture.put("m/1/golden/wrong.json", &wrong);
    let finished = golden(&["check", &fixture.model()]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let reason = "golden/wrong.json: output 'label': element [0]: expected 2, got 0";
    assert!(finished.stdout.contains(reason), "{finished:?}");
    assert!(finished.stdout.contains("disproven"), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("1 of 1 versions with golden requests would not serve")
    );
}

#[test]
fn the_server_s_own_trial_replays_them() {
    let fixture = Fixture::of("iris/2");
    golden(&["record", &fixture.file()]).ok();
    let wrong = fixture
        .golden("made-up-01.json")
        .replace("\"data\":[0]", "\"data\":[2]");
    let serve = |path: &str| {
        Onnxd::new(["serve", "--models", path])
            .with("ONNXD_INFERENCE__ONNXRUNTIME", "off")
            .with("ONNXD_SERVER__DRAIN_DELAY_MS", "0")
    };
    let repository = text(fixture.folder.path());
    let health = |contains: &'static str| {
        let server = serve(&repository).serve();
        let mut last = String::new();
        crate::support::eventually("the model is loaded or failed", || {
            let mut connection = Connection::open(server.address).expect("the server accepts");
            connection.send(&Request::get("/health"));
            last = connection.answer().text().to_owned();
            !last.contains("\"loading\"") && last.contains("\"m\"")
        });
        assert!(last.contains(contains), "{last}");
    };
    health("4 golden requests as expected");
    fixture.put("m/1/golden/wrong.json", &wrong);
    health("golden/wrong.json: output 'label': element [0]: expected 2, got 0");
}

#[test]
fn a_trial_that_cannot_read_its_job_ends_at_once() {
    let mut trial = Command::new(env!("CARGO_BIN_EXE_onnxd"))
        .args(["try-load", "--onnxruntime", "off"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary under test starts");
    let mut jobs = trial.stdin.take().expect("standard input is piped");
    writeln!(jobs, "{{\"path\": \"m.onnx\", \"colour\": \"red\"}}").expect("it reads");
    // Its input stays open, as the server holds it.
    let output = trial.wait_with_output().expect("it ends");
    drop(jobs);
    assert_eq!(output.status.code(), Some(65));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("a job for try-load cannot be done: missing field"),
        "{told}"
    );
}

#[test]
fn the_bundled_models_have_golden_requests_that_onnx_runtime_answered() {
    for version in ["iris/1", "iris/2", "digits/1", "digits/2", "wine/1"] {
        let read = |path: String| -> Value {
            let text = fs::read_to_string(in_repository(&path));
            let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
            serde_json::from_str(&text).expect("it is JSON")
        };
        let recorded = format!("tests/data/expected/{}.json", version.replace('/', "-"));
        let recorded = read(recorded);
        for (name, rows) in [("one-row", 0..1), ("three-rows", 1..4)] {
            let golden = read(format!("models/{version}/golden/{name}.json"));
            for (part, of) in [("request", "inputs"), ("response", "outputs")] {
                let tensors = golden[part][of].as_array().expect("a list");
                let columns = recorded[of].as_object().expect("columns by name");
                assert_eq!(tensors.len(), columns.len());
                for tensor in tensors {
                    let column = &columns[tensor["name"].as_str().expect("a name")];
                    let expected: Vec<Value> =
                        rows.clone().flat_map(|row| flat(&column[row])).collect();
                    assert_eq!(tensor["data"], Value::from(expected), "{version} {name}");
                }
            }
        }
    }
}

fn flat(value: &Value) -> Vec<Value> {
    match value.as_array() {
        Some(list) => list.iter().flat_map(flat).collect(),
        None => vec![value.clone()],
    }
}
