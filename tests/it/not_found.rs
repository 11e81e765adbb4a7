//! What is not there: paths, methods, models and versions.

use crate::support::client::Request;
use crate::support::server::bundled;

#[track_caller]
fn check(request: Request, status: u16, message: &str) {
    bundled().ask(&request).is_error(status, message);
}

#[test]
fn an_unknown_path_is_told_the_routes() {
    let message = |path: &str| format!("unknown path '{path}'; /docs shows the routes");
    for path in [
        "/nowhere",
        "/predict/iris/2/extra",
        "/v2/models/iris/versions/2/nothing",
    ] {
        check(Request::get(path), 404, &message(path));
        check(Request::post(path, "{}"), 404, &message(path));
    }
    check(
        Request::get("/nowhere?model=iris"),
        404,
        &message("/nowhere"),
    );
}

#[test]
fn a_wrong_method_is_told_the_right_one() {
    for (method, path, allowed) in [
        ("GET", "/predict", "POST"),
        ("PUT", "/predict/iris", "POST"),
        ("GET", "/predict/iris/2", "POST"),
        ("GET", "/v2/models/iris/infer", "POST"),
        ("DELETE", "/health", "GET,HEAD"),
        ("POST", "/metrics", "GET,HEAD"),
        ("POST", "/v2/models/iris", "GET,HEAD"),
        ("PURGE", "/", "GET,HEAD"),
    ] {
        let answer = bundled().ask(&Request::new(method, path));
        let message = format!("method {method} is not allowed on '{path}'; see the Allow header");
        answer.is_error(405, &message);
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
}

#[test]
fn head_answers_as_get_without_the_body() {
    let answer = bundled().ask(&Request::new("HEAD", "/health/live"));
    assert_eq!(answer.status, 200);
    let length = bundled().get("/health/live").body.len().to_string();
    assert_eq!(answer.header("content-length"), Some(length.as_str()));
}

#[test]
fn an_unknown_model_is_told_the_models() {
    let message = "unknown model 'rose'; the models are 'digits', 'iris', 'wine'";
    check(Request::post("/predict/rose", "{}"), 404, message);
    check(Request::post("/predict/rose/1", "{}"), 404, message);
    check(Request::post("/v2/models/rose/infer", "{}"), 404, message);
    check(
        Request::post("/v2/models/rose/versions/1/infer", "{}"),
        404,
        message,
    );
    check(Request::get("/v2/models/rose"), 404, message);
    check(Request::get("/v2/models/rose/ready"), 404, message);
    check(Request::get("/v2/models/rose/versions/1"), 404, message);
    check(
        Request::get("/v2/models/rose/versions/1/ready"),
        404,
        message,
    );
}

#[test]
fn an_unknown_version_is_told_the_versions() {
    for version in ["7", "latest", "0", "-1", "2.0", "99999999999999999999"] {
        let message =
            format!("model 'iris' has no version '{version}'; the versions served are '2', '1'");
        check(
            Request::post(&format!("/predict/iris/{version}"), "{}"),
            404,
            &message,
        );
        let version = format!("/v2/models/iris/versions/{version}");
        check(
            Request::post(&format!("{version}/infer"), "{}"),
            404,
            &message,
        );
        check(Request::get(&version), 404, &message);
        check(Request::get(&format!("{version}/ready")), 404, &message);
    }
}

#[test]
fn a_path_that_is_no_text_is_a_bad_request() {
    check(
        Request::post("/predict/%ff", "{}"),
        400,
        "the request's path is not valid",
    );
    check(
        Request::get("/v2/models/%ff"),
        400,
        "the request's path is not valid",
    );
}
