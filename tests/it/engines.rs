//! Engines side by side: one that lies, breaks down or hangs harms only itself, and the fastest of those that agree
//! serves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::{Answer, Request};
use crate::support::eventually;
use crate::support::onnx::{self, Node};
use crate::support::planted::Habit::{self, *};
use crate::support::server::{Setup, TestServer};

/// How fractions and whole numbers come out: two rows of each, as they went in.
fn request() -> Value {
    json!({ "inputs": [
        { "name": "x", "datatype": "FP32", "shape": [2, 2], "data": [0.5, 1.5, 2.5, 3.5] },
        { "name": "label", "datatype": "INT64", "shape": [2], "data": [7, 8] },
    ] })
}

/// One model `m` that answers its two inputs, on engines with these habits.
fn setup(engines: &[(&'static str, Habit)]) -> Setup {
    let script = json!({ "inputs": [["x", "FP32", [null, 2]], ["label", "INT64", [null]]] });
    Setup::scripted(script).engines(engines)
}

fn infer(server: &TestServer) -> Answer {
    server.post("/v2/models/m/infer", request().to_string())
}

/// What `/health` says of the model.
fn model(server: &TestServer) -> Value {
    server.get("/health").json()["models"][0].take()
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
}

/// The engines in `/health`, by name, standing and reason.
fn findings(model: &Value) -> Vec<(&str, &str, &str)> {
    let findings = model["engines"].as_array().expect("there are findings");
    let finding = |finding| {
        let of = |key: &str| text(Value::get(finding, key).expect("it is there"));
        (of("name"), of("standing"), of("reason"))
    };
    findings.iter().map(finding).collect()
}

/// Checks that this engine serves the model and answers right, on every face that tells.
#[track_caller]
fn check_served_by(server: &TestServer, engine: &str) {
    assert_eq!(model(server)["engine"], engine);
    let info = format!(
        r#"onnxd_model_info{{engine="{engine}",model="m",platform="onnx_onnxv1",version="1"}}"#
    );
    assert_eq!(server.metric(&info), Some(1.0));
    let answer = infer(server).ok();
    let (asked, outputs) = (request(), &answer["outputs"]);
    for at in [0, 1] {
        assert_eq!(outputs[at]["data"], asked["inputs"][at]["data"], "{answer}");
    }
}

/// Checks that nothing serves the model, and that health and requests give these reasons.
#[track_caller]
fn check_refused(server: &TestServer, status: u16, reasons: &[&str]) {
    let model = model(server);
    assert_eq!(model["state"], "failed");
    let answer = infer(server);
    assert_eq!(answer.status, status, "{answer:?}");
    for reason in reasons {
        assert!(text(&model["reason"]).contains(reason), "{model}");
        assert!(answer.error().contains(reason), "{answer:?}");
    }
}

/// Checks where the engines stand, in order, and a part of each reason.
#[track_caller]
fn check_findings(server: &TestServer, expected: &[(&str, &str, &str)]) {
    let model = model(server);
    assert_eq!(model["state"], "ready", "{model}");
    let found = findings(&model);
    assert_eq!(found.len(), expected.len(), "{model}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!((found.0, found.1), (expected.0, expected.1), "{model}");
        assert!(found.2.contains(expected.2), "{model}");
    }
}

/// Every way to lie, and how it is told.
const LIES: [(Habit, &str); 4] = [
    (Lies(0), "output 0: the largest difference is"),
    (Lies(1), "output 1: "),
    (LiesInShape, "output 0: FP32 "),
    (LeavesOut, "outputs against "),
];

#[test]
fn two_honest_engines_outvote_one_that_lies() {
    for (lie, how) in LIES {
        let server = setup(&[("tract", lie), ("rten", Honest), ("onnxruntime", Honest)]).start();
        check_served_by(&server, "rten");
        check_findings(
            &server,
            &[
                ("tract", "differs", how),
                ("rten", "agrees", "answers like onnxruntime"),
                ("onnxruntime", "agrees", "answers like rten"),
            ],
        );
    }
}

#[test]
fn one_against_one_is_refused_with_what_was_seen() {
    for (lie, how) in LIES {
        let server = setup(&[("tract", Honest), ("rten", lie)]).start_loaded();
        let reasons = ["tract: differs from rten", "rten: differs from tract", how];
        check_refused(&server, 501, &reasons);
    }
}

#[test]
fn the_owner_may_have_it_served_with_a_warning() {
    let engines = [("tract", Honest), ("rten", Lies(0))];
    let by_server = setup(&engines).with("inference.engine_agreement", "warn");
    let by_model = setup(&engines).file("m/model.toml", "engine_agreement = \"warn\"");
    for setup in [by_server, by_model] {
        let server = setup.start();
        check_served_by(&server, "tract");
        check_findings(
            &server,
            &[
                ("tract", "disputed", "differs from rten"),
                ("rten", "disputed", "differs from tract"),
            ],
        );
    }
}

#[test]
fn the_owner_may_name_the_engine() {
    let engines = [("tract", Lies(0)), ("rten", Honest)];
    let by_server = setup(&engines).with("inference.engine", "rten");
    let by_model = setup(&engines).file("m/model.toml", "engine = \"rten\"");
    for setup in [by_server, by_model] {
        let server = setup.start();
        check_served_by(&server, "rten");
        check_findings(&server, &[("rten", "alone", "")]);
    }
    let server = setup(&engines)
        .with("inference.engine", "onnxruntime")
        .start_loaded();
    let reason = "engine 'onnxruntime' is not there; this server has tract, rten";
    check_refused(&server, 503, &[reason]);
}

#[test]
fn an_engine_that_breaks_down_harms_only_itself() {
    let cases = [
        (PanicsOnLoad, "refuses", "panicked while loading"),
        (PanicsOnRun, "fails", "panicked while it was tried"),
        (FailsOn(3), "fails", "3 rows do not fit"),
        (Refuses, "refuses", "tract lacks operator Frobnicate"),
        (Needs(1 << 60), "refuses", "MiB of memory, and "),
    ];
    for (habit, standing, reason) in cases {
        let server = setup(&[("tract", habit), ("rten", Honest), ("onnxruntime", Honest)]).start();
        check_served_by(&server, "rten");
        check_findings(
            &server,
            &[
                ("tract", standing, reason),
                ("rten", "agrees", ""),
                ("onnxruntime", "agrees", ""),
            ],
        );
        let server = setup(&[("tract", habit), ("rten", Honest)]).start();
        check_served_by(&server, "rten");
        let found = model(&server);
        assert_eq!(findings(&found)[0].1, standing, "{found}");
    }
}

#[test]
fn an_engine_that_never_returns_is_left_behind() {
    for (habit, doing) in [(NeverLoads, "loading"), (NeverRuns, "running")] {
        let server = setup(&[("tract", habit), ("rten", Honest)])
            .with("inference.load_timeout_ms", "15000")
            .start();
        check_served_by(&server, "rten");
        let reason = format!("{doing} the model takes far longer");
        check_findings(
            &server,
            &[("tract", "fails", &reason), ("rten", "alone", "")],
        );
    }
}

#[test]
fn a_failure_that_comes_at_once_does_not_hurry_the_others() {
    let slow = Takes(|_, _| Duration::from_millis(150));
    let server = setup(&[("tract", PanicsOnRun), ("rten", slow)])
        .with("inference.load_timeout_ms", "3000")
        .start();
    check_served_by(&server, "rten");
}

#[test]
fn an_engine_that_is_alone_serves() {
    let server = setup(&[("tract", Refuses), ("rten", Honest)]).start();
    check_served_by(&server, "rten");
    check_findings(
        &server,
        &[
            ("tract", "refuses", "tract lacks operator Frobnicate"),
            ("rten", "alone", "no other engine runs the model"),
        ],
    );
}

#[test]
fn without_an_engine_every_reason_is_told() {
    let server = setup(&[("tract", Refuses), ("rten", PanicsOnLoad)]).start_loaded();
    let reasons = [
        "no engine runs this model: tract lacks operator Frobnicate",
        "rten: the engine panicked while loading",
    ];
    check_refused(&server, 501, &reasons);
    let server = setup(&[("tract", Needs(1 << 60)), ("rten", PanicsOnLoad)]).start_loaded();
    check_refused(&server, 503, &["tract: loading it takes about", "rten: "]);
}

#[test]
fn what_chance_makes_need_not_be_equal() {
    let start = |nodes: &[Node<'_>]| {
        Setup::empty()
            .file("m/1/model.onnx", onnx::model(nodes))
            .on_tract()
            .engines(&[("tract", Honest), ("rten", Lies(0))])
            .start_loaded()
    };
    let server = start(&[
        Node("RandomUniform", &[], "chance"),
        Node("Add", &["x", "chance"], "y"),
    ]);
    check_findings(&server, &[("tract", "agrees", ""), ("rten", "agrees", "")]);
    let server = start(&[Node("Add", &["x", "x"], "y")]);
    assert_eq!(model(&server)["state"], "failed");
}

/// Asks on two connections for as long as `during` runs; every answer must be 200. Comes with how many there were.
fn ask_all_the_while(server: &TestServer, body: &str, during: impl FnOnce()) -> usize {
    let over = AtomicBool::new(false);
    let asking = || {
        let mut asked = 0;
        while !over.load(Ordering::Relaxed) {
            let answer = server.ask(&Request::post("/v2/models/m/infer", body));
            assert_eq!(answer.status, 200, "{answer:?}");
            asked += 1;
        }
        asked
    };
    thread::scope(|scope| {
        let threads = [scope.spawn(asking), scope.spawn(asking)];
        during();
        over.store(true, Ordering::Relaxed);
        let asked = threads.map(|thread| thread.join().expect("every request is answered"));
        asked.iter().sum()
    })
}

#[track_caller]
fn wait_for_engine(server: &TestServer, engine: &str) {
    eventually("the better engine serves", || {
        model(server)["engine"] == engine
    });
}

#[test]
fn the_fastest_that_agrees_is_swapped_in_and_no_request_is_lost() {
    let slow = Takes(|_, _| Duration::from_millis(20));
    let fast = Takes(|_, _| Duration::from_millis(2));
    let server = setup(&[("tract", slow), ("rten", fast), ("onnxruntime", Lies(0))]).start();
    check_served_by(&server, "tract");
    let asked = ask_all_the_while(&server, &request().to_string(), || {
        wait_for_engine(&server, "rten");
    });
    assert!(asked > 0);
    check_served_by(&server, "rten");
    let model = model(&server);
    let why = text(&model["engine_reason"]);
    assert!(why.starts_with("measured the best for throughput"), "{why}");
    assert!(why.contains("tract ") && why.contains("rten "), "{why}");
    let gone = r#"onnxd_model_info{engine="tract",model="m",platform="onnx_onnxv1",version="1"}"#;
    assert_eq!(server.metric(gone), None);
}

#[test]
fn for_latency_a_run_takes_all_threads_where_it_gains() {
    let splits = Takes(|_, threads| Duration::from_millis(8) / threads as u32);
    let server = setup(&[("tract", splits)])
        .with("inference.threads", "2")
        .with("inference.aim", "latency")
        .start();
    eventually("one worker has all threads", || {
        let model = model(&server);
        model["workers"] == 1 && model["threads_per_worker"] == 2
    });
    check_served_by(&server, "tract");
}

#[test]
fn what_is_disputed_is_measured_and_not_swapped_for_another_engine() {
    let splits = Takes(|_, threads| Duration::from_millis(8) / threads as u32);
    let server = setup(&[("tract", splits), ("rten", Lies(0))])
        .with("inference.engine_agreement", "warn")
        .with("inference.threads", "2")
        .with("inference.aim", "latency")
        .start();
    eventually("it was measured", || model(&server)["workers"] == 1);
    check_served_by(&server, "tract");
}

/// A request of so many rows.
fn rows(rows: usize) -> String {
    let (x, label) = (vec![0.5; 2 * rows], vec![1; rows]);
    json!({ "inputs": [
        { "name": "x", "datatype": "FP32", "shape": [rows, 2], "data": x },
        { "name": "label", "datatype": "INT64", "shape": [rows], "data": label },
    ] })
    .to_string()
}

#[test]
fn a_model_that_is_used_otherwise_is_measured_again() {
    let for_one = Takes(|rows, _| Duration::from_millis(if rows < 8 { 1 } else { 8 }));
    let for_many = Takes(|rows, _| Duration::from_millis(if rows < 8 { 4 } else { 1 }));
    let server = setup(&[("tract", for_one), ("rten", for_many)])
        .with("inference.aim", "latency")
        .start();
    check_served_by(&server, "tract");
    for (count, engine) in [(8, "rten"), (1, "tract")] {
        ask_all_the_while(&server, &rows(count), || wait_for_engine(&server, engine));
        check_served_by(&server, engine);
    }
}

/// Engines of which the first is slow, the second is the best for rows that are joined, and the third for one row.
const FOR_ONE_OR_MANY: [(&str, Habit); 3] = [
    (
        "tract",
        Takes(|rows, _| Duration::from_millis(60 * rows as u64)),
    ),
    ("rten", Takes(|_, _| Duration::from_millis(40))),
    (
        "onnxruntime",
        Takes(|rows, _| Duration::from_millis(5 * rows as u64)),
    ),
];

#[test]
fn where_requests_join_the_best_for_many_rows_is_swapped_in() {
    let server = setup(&FOR_ONE_OR_MANY).start();
    wait_for_engine(&server, "rten");
    check_served_by(&server, "rten");
    let model = model(&server);
    let why = text(&model["engine_reason"]);
    assert!(why.contains("with rows that are joined"), "{why}");
    let rows = model["batch_rows"].as_u64().expect("a number");
    assert!(rows >= 8, "what was measured came over: {model}");
    let reason = text(&model["batch_reason"]);
    assert!(reason.contains(" µs alone, "), "{reason}");
}

#[test]
fn where_they_do_not_the_best_for_one_is() {
    let by_owner = |owner: &str| setup(&FOR_ONE_OR_MANY).file("m/model.toml", owner).start();
    let script = json!({ "inputs": [["x", "FP32", [null, 2]]], "outputs": [["y", "FP32", [2]]] });
    let fixed = Setup::scripted(script).engines(&FOR_ONE_OR_MANY).start();
    for server in [fixed, by_owner("max_batch_rows = 1")] {
        wait_for_engine(&server, "onnxruntime");
        assert_eq!(model(&server)["batch_rows"], 1);
    }
}

#[test]
fn the_owner_may_share_out_the_threads() {
    let splits = Takes(|_, threads| Duration::from_millis(8) / threads as u32);
    for (owner, workers, threads) in [
        ("instances = 3", 3, 1),
        ("threads_per_instance = 4", 1, 4),
        ("instances = 2\nthreads_per_instance = 2", 2, 2),
    ] {
        let server = setup(&[("tract", splits), ("rten", splits)])
            .file("m/model.toml", owner)
            .with("inference.threads", "4")
            .start();
        let split = |server: &TestServer| {
            let model = model(server);
            (
                model["workers"].clone(),
                model["threads_per_worker"].clone(),
            )
        };
        assert_eq!(split(&server), (json!(workers), json!(threads)), "{owner}");
    }
}

#[test]
fn an_engine_that_hangs_while_it_is_measured_is_left_behind() {
    let steady = Takes(|_, _| Duration::from_millis(3));
    let for_many = Takes(|rows, _| Duration::from_millis(if rows < 8 { 10 } else { 1 }));
    let engines = [
        ("tract", steady),
        ("rten", HangsOn(8)),
        ("onnxruntime", for_many),
    ];
    let server = setup(&engines).start();
    check_served_by(&server, "tract");
    ask_all_the_while(&server, &rows(8), || {
        server.gate.wait_for_blocked(1);
        wait_for_engine(&server, "onnxruntime");
    });
    check_served_by(&server, "onnxruntime");
}
