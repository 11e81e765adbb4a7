//! What every answer carries: an id, where its time went, and the trace that it is part of.

use std::collections::HashSet;

use crate::support::client::{Answer, Request};
use crate::support::samples::samples;
use crate::support::server::Setup;

const BODY: &str = r#"{"instances": [[1,2]]}"#;

/// One request for each layer that may answer.
fn every_kind() -> [Request; 7] {
    [
        Request::post("/predict/rows", BODY),
        Request::post("/predict/rows", "{}"),
        Request::get("/health/live"),
        Request::get("/nowhere"),
        Request::get("/predict"),
        Request::post("/predict/rows", BODY).with("content-encoding", "br"),
        Request::post("/predict/%ff", BODY),
    ]
}

fn id(answer: &Answer) -> &str {
    answer
        .header("x-request-id")
        .expect("every answer has an id")
}

#[test]
fn the_clients_own_id_comes_back() {
    for request in every_kind() {
        for own in ["7", "0af7-65!~", &"x".repeat(128)] {
            let answer = samples().ask(&request.clone().with("x-request-id", own));
            assert_eq!(id(&answer), own, "{request:?}");
        }
    }
}

#[test]
fn a_request_without_an_id_gets_one_of_its_own() {
    let mut seen = HashSet::new();
    for request in every_kind() {
        let answer = samples().ask(&request);
        let hex = id(&answer).bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(hex && id(&answer).len() == 32, "{}", id(&answer));
        assert!(
            seen.insert(id(&answer).to_owned()),
            "{} came twice",
            id(&answer)
        );
    }
}

#[test]
fn an_id_that_is_not_fit_for_a_log_is_replaced() {
    for unfit in ["", "two words", "žlutý", &"x".repeat(129)] {
        let answer = samples().ask(&Request::get("/health/live").with("x-request-id", unfit));
        assert_eq!(id(&answer).len(), 32, "{unfit:?} became {:?}", id(&answer));
    }
}

/// The names of the phases, each with a time in milliseconds.
fn phases(answer: &Answer) -> Vec<(&str, f64)> {
    let timing = answer
        .header("server-timing")
        .expect("every answer tells its time");
    let phase = |text| {
        let (name, time) = str::split_once(text, ";dur=").expect("a name and a time");
        (name, time.parse().expect("a number"))
    };
    timing.split(", ").map(phase).collect()
}

#[test]
fn an_inference_tells_its_phases() {
    for path in ["/predict/fp32", "/v2/models/fp32/infer"] {
        let body = r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]}"#;
        let answer = samples().post(path, body);
        let [("queue", queue), ("compute", compute), ("total", total)] = phases(&answer)[..] else {
            panic!("{:?}", answer.header("server-timing"));
        };
        assert!(queue >= 0.0 && compute >= 0.0 && queue + compute <= total);
    }
}

#[test]
fn any_other_answer_tells_its_total() {
    for path in ["/health/live", "/nowhere", "/metrics"] {
        let answer = samples().get(path);
        assert!(
            matches!(phases(&answer)[..], [("total", total)] if total >= 0.0),
            "{path}"
        );
    }
}

#[test]
fn a_trace_is_continued_with_a_span_of_our_own() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for request in every_kind() {
        let answer = samples().ask(&request.with("traceparent", parent));
        let continued = answer.header("traceparent").expect("the trace goes on");
        let (start, end) = (&continued[..36], &continued[52..]);
        assert_eq!((start, end), (&parent[..36], "-01"), "{continued}");
        assert_ne!(&continued[36..52], &parent[36..52], "the span is ours");
    }
}

#[test]
fn without_a_well_formed_trace_none_is_made_up() {
    let answer = samples().get("/health/live");
    assert_eq!(answer.header("traceparent"), None);
    let malformed = Request::get("/health/live").with("traceparent", "00-0-0-00");
    assert_eq!(samples().ask(&malformed).header("traceparent"), None);
}

const ORIGIN: &str = "access-control-allow-origin";

#[test]
fn browsers_of_other_origins_are_let_in_only_when_configured() {
    let from = |origin| Request::get("/health/live").with("origin", origin);
    assert_eq!(
        samples().ask(&from("https://a.example")).header(ORIGIN),
        None
    );
    let any = Setup::bundled().with("server.cors_origins", "*").start();
    assert_eq!(
        any.ask(&from("https://a.example")).header(ORIGIN),
        Some("*")
    );
    let listed = Setup::bundled()
        .with(
            "server.cors_origins",
            "https://a.example, https://b.example",
        )
        .start();
    for origin in ["https://a.example", "https://b.example"] {
        assert_eq!(listed.ask(&from(origin)).header(ORIGIN), Some(origin));
    }
    assert_eq!(listed.ask(&from("https://c.example")).header(ORIGIN), None);
}

#[test]
fn a_browsers_preflight_is_answered() {
    let server = Setup::bundled().with("server.cors_origins", "*").start();
    let preflight = Request::new("OPTIONS", "/predict/iris")
        .with("origin", "https://a.example")
        .with("access-control-request-method", "POST")
        .with("access-control-request-headers", "content-type");
    let answer = server.ask(&preflight);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-methods"), Some("*"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("*"));
    assert_eq!(id(&answer).len(), 32);
}
