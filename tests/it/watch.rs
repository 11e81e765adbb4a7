//! What changes in the repository while the server runs, and what requests see of it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::samples::{bad, good, predict, renamed};
use crate::support::server::{Setup, TestServer};
use crate::support::{eventually, in_repository};

/// From now on requests that name no version are answered, and in the end by this one.
#[track_caller]
fn comes_to_be_served_by(server: &TestServer, version: &str) {
    eventually(&format!("version {version} answers"), || {
        let answer = server.ask(&predict(1));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(server.get("/health/ready").status, 200);
        answer.json()["model_version"] == version
    });
}

#[track_caller]
fn index_becomes(server: &TestServer, expected: &[&str]) {
    let mut last = Vec::new();
    let give_up = Instant::now() + Duration::from_secs(20);
    while last != expected {
        assert!(Instant::now() < give_up, "{last:?}, not {expected:?}");
        thread::yield_now();
        last = server.index("{}");
    }
}

fn remove(server: &TestServer, path: &str) {
    let path = server.repository().join(path);
    fs::remove_dir_all(path).expect("it is there");
}

fn input_of(server: &TestServer) -> Value {
    server.get("/v2/models/m").json()["inputs"][0]["name"].clone()
}

#[test]
fn a_new_version_takes_the_place_of_the_old_one() {
    let server = Setup::empty().model("m/1", good()).start();
    server.put_model("m/2", &good());
    comes_to_be_served_by(&server, "2");
    index_becomes(&server, &["m 2 READY"]);
    let state = server.metric("onnxd_model_state{model=\"m\",state=\"ready\",version=\"1\"}");
    assert_eq!(state, None, "nothing is left of the old one");
}

#[test]
fn a_new_version_that_fails_leaves_the_old_one_in_place_and_says_why() {
    let server = Setup::empty().model("m/1", good()).start();
    server.put_model("m/2", &bad());
    let failed = "m 2 UNAVAILABLE the graph has a cycle";
    index_becomes(&server, &["m 1 READY", failed]);
    assert_eq!(server.ask(&predict(1)).ok()["model_version"], "1");
    assert_eq!(server.get("/health/ready").status, 200);
    let health = server.get("/health").ok();
    assert_eq!(health["models"][1]["reason"], "the graph has a cycle");
    let state = server.metric("onnxd_model_state{model=\"m\",state=\"failed\",version=\"2\"}");
    assert_eq!(state, Some(1.0));
    server.put_model("m/2", &good());
    comes_to_be_served_by(&server, "2");
    index_becomes(&server, &["m 2 READY"]);
}

#[test]
fn a_changed_file_takes_its_own_place() {
    let server = Setup::empty().model("m/1", good()).start();
    server.ask(&predict(1)).ok();
    server.put_model("m/1", &renamed());
    eventually("the file is read anew", || input_of(&server) == "renamed");
    server.put_model("m/1", &bad());
    let refused = "m 1 READY what is in the repository now failed to load: the graph has a cycle";
    index_becomes(&server, &[refused]);
    assert_eq!(server.ask(&predict(1)).status, 200);
    server.put_model("m/1", &good());
    eventually("the file is read anew", || input_of(&server) == "x");
    index_becomes(&server, &["m 1 READY"]);
    let stats = server.get("/v2/models/m/stats").ok();
    assert_eq!(
        stats["model_stats"][0]["inference_count"], 2,
        "they are kept"
    );
}

/// What is due to be tried again and is not there any more, though a label names it, is not due for ever.
#[test]
fn a_version_that_goes_while_it_is_loaded_keeps_nothing_busy() {
    let server = Setup::empty().model("waits/1", good()).start();
    server.put("waits/model.toml", "version_labels = { canary = \"2\" }");
    let blocking = json!({ "inputs": [["x", "INT64", [null]]], "load": "block" });
    server.put_model("waits/2", &blocking);
    server.gate.wait_for_blocked(1);
    remove(&server, "waits/2");
    server.gate.open();
    let gone = "waits 2 UNAVAILABLE it is asked for (by the label 'canary' in model.toml) and the repository has 1";
    index_becomes(&server, &["waits 1 READY", gone]);
    // Each load has a thread of its own, with the model's name.
    let mut loads = BTreeSet::new();
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        let threads = fs::read_dir("/proc/self/task").expect("it is Linux");
        for thread in threads.flatten() {
            let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            if name.trim() == "bring-waits" {
                loads.insert(thread.file_name());
            }
        }
    }
    assert!(
        loads.len() < 4,
        "{} loads of what is not there",
        loads.len()
    );
}

#[test]
fn a_file_beside_the_model_is_a_part_of_it() {
    let server = Setup::empty().model("m/1", good()).start();
    server.put_model("m/1", &bad());
    let refused = "m 1 READY what is in the repository now failed to load: the graph has a cycle";
    index_becomes(&server, &[refused]);
    let loads = || server.metric("onnxd_model_load_failures_total{model=\"m\",version=\"1\"}");
    assert_eq!(loads(), Some(1.0), "it is not tried again as it is");
    server.put("m/1/weights.bin", "0123");
    eventually("it is tried again", || loads() == Some(2.0));
}

#[test]
fn the_last_version_that_serves_goes_when_an_older_one_has_taken_its_place() {
    let server = Setup::empty()
        .model("m/1", good())
        .model("m/2", good())
        .start();
    remove(&server, "m/2");
    comes_to_be_served_by(&server, "1");
    index_becomes(&server, &["m 1 READY"]);
}

#[test]
fn what_nothing_can_take_the_place_of_goes_on() {
    let server = Setup::empty()
        .model("m/1", bad())
        .model("m/2", good())
        .start();
    remove(&server, "m/2");
    let gone = "m 2 READY what is in the repository now failed to load: it is not there any more, and nothing else can take its place";
    index_becomes(&server, &["m 1 UNAVAILABLE the graph has a cycle", gone]);
    assert_eq!(server.ask(&predict(1)).ok()["model_version"], "2");
    server.put_model("m/1", &good());
    comes_to_be_served_by(&server, "1");
    index_becomes(&server, &["m 1 READY"]);
}

#[test]
fn a_model_that_is_removed_is_gone_once_its_requests_are_answered() {
    let server = Setup::empty()
        .model("m/1", good())
        .model("other/1", good())
        .start();
    let held = server.send(&crate::support::client::Request::post(
        "/predict/m",
        r#"{"instances": [4]}"#,
    ));
    server.gate.wait_for_blocked(1);
    remove(&server, "m");
    eventually("requests do not find it", || {
        server.get("/v2/models/m").status == 404
    });
    let unknown = "unknown model 'm'; the models are 'other'";
    server.ask(&predict(1)).is_error(404, unknown);
    assert_eq!(server.index("{}"), ["m 1 UNLOADING", "other 1 READY"]);
    server.gate.open();
    let mut held = held;
    assert_eq!(held.answer().status, 200);
    index_becomes(&server, &["other 1 READY"]);
    assert_eq!(server.get("/health/ready").status, 200);
    server.put_model("m/1", &good());
    eventually("it is back", || server.ask(&predict(1)).status == 200);
}

#[test]
fn what_comes_later_is_served_and_not_required() {
    let server = Setup::empty().model("m/1", good()).start();
    server.put_model("broken/1", &bad());
    server.put("odd/model.toml", "rows = 3");
    server.put_model("later/1", &good());
    index_becomes(
        &server,
        &[
            "broken 1 UNAVAILABLE the graph has a cycle",
            "later 1 READY",
            "m 1 READY",
            "odd  UNAVAILABLE there is no model.onnx, neither in the folder nor in one for a version (1, 2, …)",
        ],
    );
    let answer = server.post("/predict/later", r#"{"instances": [1]}"#).ok();
    assert_eq!(answer["model_version"], "1");
    let answer = server.post("/predict", r#"{"instances": [1]}"#).ok();
    assert_eq!(answer["model_name"], "m", "the default stays what it was");
    assert_eq!(server.get("/health/ready").status, 200);
}

#[test]
fn a_model_that_hangs_holds_up_no_other() {
    let server = Setup::empty().model("m/1", good()).start();
    let hanging = json!({ "inputs": [["x", "INT64", [null]]], "load": "block" });
    server.put_model("hanging/1", &hanging);
    server.gate.wait_for_blocked(1);
    server.put_model("m/2", &good());
    comes_to_be_served_by(&server, "2");
    assert!(server.index("{}").contains(&"hanging 1 LOADING".to_owned()));
}

/// A writer that takes its time: at no moment is half a file tried.
#[test]
fn a_file_that_is_being_written_is_not_loaded() {
    let server = Setup::empty()
        .with("repository.poll_ms", "300")
        .model("m/1", good())
        .start();
    let text = good().to_string();
    let folder = server.repository().join("m/2");
    fs::create_dir(&folder).expect("the repository is writable");
    let mut file = fs::File::create(folder.join("model.onnx")).expect("the folder is writable");
    let mut last = server.index("{}");
    for piece in text.as_bytes().chunks(6) {
        file.write_all(piece).expect("there is space");
        // As long as it takes to ask, which is far less than the time to settle.
        let until = Instant::now() + Duration::from_millis(60);
        while Instant::now() < until {
            last = server.index("{}");
            assert_eq!(last, ["m 1 READY"]);
        }
    }
    assert_eq!(last, ["m 1 READY"]);
    drop(file);
    comes_to_be_served_by(&server, "2");
    let failures = server.metric("onnxd_model_load_failures_total{model=\"m\",version=\"2\"}");
    assert_eq!(failures, None, "half a file was never tried");
}

/// At the start, too, and then the server waits for it.
#[test]
fn a_file_that_is_being_written_at_the_start_is_waited_for() {
    let setup = Setup::empty()
        .with("repository.poll_ms", "200")
        .model("other/1", good())
        .file("m/1/model.onnx", "");
    let path = setup.folder().join("m/1/model.onnx");
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::create(&path).expect("it is there");
            let mut length = 0;
            while !is_over.load(Ordering::Relaxed) {
                length += 1;
                write!(file, "{}", " ".repeat(length)).expect("there is space");
                thread::yield_now();
            }
            drop(file);
            fs::write(&path, good().to_string()).expect("there is space");
        });
        let server = setup.start_loading();
        eventually("the other is served", || {
            let answer = server.post("/predict/other", r#"{"instances": [1]}"#);
            answer.status == 200
        });
        let default = server.get("/health").json()["default_model"].clone();
        assert_eq!(default, Value::Null, "it is not the only one");
        let reason = "model 'm' is not served: its files are still being written";
        eventually("it is known", || {
            server.get("/health/ready").text().contains(reason)
        });
        is_over.store(true, Ordering::Relaxed);
        eventually("it is served", || server.ask(&predict(1)).status == 200);
        assert_eq!(server.get("/health/ready").status, 200);
        let failures = server.metric("onnxd_model_load_failures_total{model=\"m\",version=\"1\"}");
        assert_eq!(failures, None, "half a file was never tried");
    });
}

#[test]
fn settings_beside_a_model_are_followed() {
    let server = Setup::empty()
        .model("m/1", good())
        .model("m/2", good())
        .start();
    let versions = || server.get("/v2/models/m").json()["versions"].clone();
    server.put("m/model.toml", "versions = \"all\"\ndefault_version = 1");
    comes_to_be_served_by(&server, "1");
    assert_eq!(versions(), json!(["1", "2"]));
    server.put("m/model.toml", "versions = \"all\"");
    comes_to_be_served_by(&server, "2");
    server.put("m/model.toml", "versions = { pinned = [2] }");
    eventually("only that one is served", || versions() == json!(["2"]));

    server.put("m/model.toml", "version = 3");
    let problem = "m  UNAVAILABLE model.toml: unknown field `version`";
    eventually("the mistake is told", || {
        server
            .index("{}")
            .first()
            .is_some_and(|first| first.starts_with(problem))
    });
    assert_eq!(server.ask(&predict(1)).ok()["model_version"], "2");
    assert_eq!(server.get("/health/ready").status, 200);
    let message = "model 'm' has no version '1'; the versions served are '2'";
    server
        .post("/predict/m/1", r#"{"instances": [1]}"#)
        .is_error(404, message);
    fs::remove_file(server.repository().join("m/model.toml")).expect("it is there");
    index_becomes(&server, &["m 2 READY"]);
}

#[test]
fn class_names_are_followed() {
    let named = |file: &str| format!("labels = {{ output = \"x_out\", file = \"{file}\" }}");
    let server = Setup::empty()
        .model("m/1", good())
        .file("m/names.txt", "zero\none")
        .file("m/model.toml", named("names.txt"))
        .start();
    let name = || server.ask(&predict(1)).ok()["predictions"].to_string();
    let before = name();
    server.put("m/names.txt", "null\neins\n");
    eventually("the names are others", || {
        let answer = server.ask(&predict(1));
        assert_eq!(answer.status, 200);
        answer.text().contains("eins")
    });
    assert!(!before.contains("eins"));
}

#[test]
fn another_default_model_is_followed() {
    let server = Setup::empty()
        .model("a/1", good())
        .model("b/1", good())
        .file("repository.toml", "default = \"a\"")
        .start();
    let default = || {
        let answer = server.post("/predict", r#"{"instances": [1]}"#);
        answer.json()["model_name"].clone()
    };
    assert_eq!(default(), "a");
    server.put("repository.toml", "default = \"b\"");
    eventually("it is the other one", || default() == "b");
}

#[test]
fn a_repository_that_cannot_be_read_changes_nothing_and_recovers() {
    let server = Setup::empty().model("m/1", good()).start();
    // What is being followed must be seen to have been looked at, before and after.
    let looked = |what: &str| {
        server.put_model(&format!("{what}/1"), &good());
        eventually("it was looked at", || {
            let path = format!("/predict/{what}");
            server.post(&path, r#"{"instances": [1]}"#).status == 200
        });
    };
    looked("before");
    let (here, away) = (
        server.repository().to_owned(),
        server.repository().with_extension("away"),
    );
    fs::rename(&here, &away).expect("a folder can be renamed");
    let readable = || server.metric("onnxd_repository_readable");
    eventually("it is missed", || readable() == Some(0.0));
    assert_eq!(server.ask(&predict(1)).status, 200);
    assert_eq!(server.get("/health/ready").status, 200);
    // An empty folder in its place is a mount that has gone, and no wish to serve nothing.
    fs::create_dir(&here).expect("the name is free");
    fs::create_dir(away.join("unseen")).expect("it is writable");
    let until = Instant::now() + Duration::from_millis(200);
    while Instant::now() < until {
        assert_eq!(server.ask(&predict(1)).status, 200);
        assert_eq!(readable(), Some(0.0));
    }
    fs::remove_dir(&here).expect("it is empty");
    fs::rename(&away, &here).expect("a folder can be renamed");
    eventually("it is back", || readable() == Some(1.0));
    looked("after");
    assert_eq!(server.ask(&predict(1)).status, 200);
}

/// As Kubernetes mounts a ConfigMap: names lead through `..data` to a folder that is swapped whole.
#[test]
fn the_swap_of_a_mounted_volume_is_noticed() {
    fn write(root: &Path, generation: &str, script: &Value) {
        let folder = root.join(format!("..{generation}"));
        fs::create_dir(&folder).expect("the repository is writable");
        fs::write(folder.join("m.onnx"), script.to_string()).expect("there is space");
        symlink(format!("..{generation}"), root.join("..data_tmp")).expect("the name is free");
        fs::rename(root.join("..data_tmp"), root.join("..data")).expect("it replaces the old one");
    }
    let setup = Setup::empty();
    write(setup.folder(), "2026_01", &good());
    symlink("..data/m.onnx", setup.folder().join("m.onnx")).expect("the name is free");
    let server = setup.start();
    assert_eq!(server.index("{}"), ["m 1 READY"]);
    write(server.repository(), "2026_02", &renamed());
    remove(&server, "..2026_01");
    eventually("the new file is served", || {
        assert_eq!(server.get("/health/ready").status, 200);
        input_of(&server) == "renamed"
    });
    assert_eq!(server.index("{}"), ["m 1 READY"]);
}

#[test]
fn many_files_cost_a_look_little() {
    let setup = Setup::empty().model("m/1", good());
    for number in 0..1000 {
        let path = setup.folder().join(format!("m/1/part{number}.bin"));
        fs::write(path, "weights").expect("there is space");
    }
    let server = setup.start();
    let began = Instant::now();
    server.put("m/1/part999.bin", "other weights");
    server.put_model("m/2", &good());
    comes_to_be_served_by(&server, "2");
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
}

/// Real models on the real engine: the bundled ones, put into each other's place.
#[test]
fn real_models_are_followed() {
    let iris = |version: &str| {
        fs::read(in_repository(&format!("models/iris/{version}/model.onnx")))
            .expect("it is bundled")
    };
    let server = Setup::empty()
        .file("m/1/model.onnx", iris("1"))
        .on_tract()
        .start();
    let ask = || server.post("/predict/m", r#"{"instances": [[5.1,3.5,1.4,0.2]]}"#);
    assert_eq!(ask().ok()["model_version"], "1");
    let folder = server.repository().join("m/2");
    fs::create_dir(&folder).expect("the repository is writable");
    fs::write(folder.join("model.onnx"), &iris("2")[..500]).expect("there is space");
    eventually("half a model has failed", || {
        assert_eq!(ask().ok()["model_version"], "1");
        server
            .index("{}")
            .iter()
            .any(|line| line.starts_with("m 2 UNAVAILABLE"))
    });
    fs::write(folder.join("model.onnx"), iris("2")).expect("there is space");
    eventually("the whole one serves", || {
        ask().ok()["model_version"] == "2"
    });
}

/// Requests come all the time; every one of them is answered, and the server is ready at every moment.
#[test]
fn changes_under_load_lose_no_request_and_no_readiness() {
    let server = Setup::empty()
        .with("inference.threads", "2")
        .model("m/1", good())
        .start();
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let answer = server.ask(&predict(1));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let ready = server.get("/health/ready");
                assert_eq!(ready.status, 200, "{}", ready.text());
            }
        });
        for version in 2..8 {
            server.put_model(&format!("m/{version}"), &good());
            comes_to_be_served_by(&server, &version.to_string());
            let input = ["renamed", "x"][version % 2];
            let script = [renamed(), good()][version % 2].clone();
            server.put_model(&format!("m/{version}"), &script);
            eventually("the file is read anew", || input_of(&server) == input);
        }
        remove(&server, "m/7");
        comes_to_be_served_by(&server, "6");
        over.store(true, Ordering::Relaxed);
    });
    assert!(answered.load(Ordering::Relaxed) > 100);
    index_becomes(&server, &["m 6 READY"]);
}
