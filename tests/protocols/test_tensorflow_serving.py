"""TensorFlow Serving's REST requests, as its documentation and its users write them."""

import base64
import gzip
import json

import numpy as np
import pytest

ROW = [5.1, 3.5, 1.4, 0.2]
ROWS = [ROW, [6.7, 3.0, 5.2, 2.3]]
AFFINE = {"x": [[1.0, 2.0]], "by": [[3.0], [4.0]], "shift": [5]}


def predict(server, session, model, body, **options):
    data = body if isinstance(body, (str, bytes)) else json.dumps(body)
    return session.post(server.url(f"/v1/models/{model}:predict"), data=data, **options)


@pytest.mark.parametrize("model", ["iris", "iris/versions/2", "iris/versions/1"])
@pytest.mark.parametrize(
    "body",
    [
        {"instances": ROWS},
        {"instances": [{"features": row} for row in ROWS]},
        {"signature_name": "serving_default", "instances": ROWS},
    ],
    ids=["values", "objects", "with a signature"],
)
def test_rows_are_answered_in_rows(server, session, model, body):
    answer = predict(server, session, model, body)
    assert answer.status_code == 200, answer.text
    assert [row["label"] for row in answer.json()["predictions"]] == [0, 2]


@pytest.mark.parametrize("body", [{"inputs": ROWS}, {"inputs": {"features": ROWS}}], ids=["one input", "named"])
def test_columns_are_answered_in_columns(server, session, body):
    answer = predict(server, session, "iris", body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outputs"]["label"] == [0, 2]


def test_single_output_has_no_name(server, session):
    rows = predict(server, session, "same_fp32", {"instances": [[1, 2], [3, 4]]}).json()
    assert rows["predictions"] == [[1, 2], [3, 4]]
    columns = predict(server, session, "same_fp32", {"inputs": [[1, 2], [3, 4]]}).json()
    assert columns["outputs"] == [[1, 2], [3, 4]]


def test_several_inputs_in_columns(server, session):
    answer = predict(server, session, "affine", {"inputs": AFFINE})
    assert answer.json()["outputs"] == {"moved": [[16]], "total": [16]}


def test_bytes_in_base64(server, session):
    element = {"b64": base64.b64encode("grün".encode()).decode()}
    answer = predict(server, session, "words", {"instances": [[element, "red"]]})
    assert answer.json()["predictions"] == [[8, 7]]


def test_bare_nan_and_infinities_as_it_writes_them(server, session):
    answer = predict(server, session, "same_fp32", '{"instances": [[NaN, Infinity, -Infinity, 1.5]]}')
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("content_type", [None, "application/json", "application/x-www-form-urlencoded", "text/plain"])
def test_any_content_type(server, session, content_type):
    headers = {"content-type": content_type} if content_type else {}
    answer = predict(server, session, "iris", json.dumps({"instances": ROWS}).encode(), headers=headers)
    assert answer.status_code == 200, answer.text


def test_gzip(server, session):
    body = gzip.compress(json.dumps({"instances": ROWS}).encode())
    assert predict(server, session, "iris", body, headers={"content-encoding": "gzip"}).status_code == 200


@pytest.mark.parametrize("path, versions", [("iris", {"1", "2"}), ("iris/versions/1", {"1"})])
def test_status_of_versions(server, session, path, versions):
    answer = session.get(server.url(f"/v1/models/{path}")).json()
    found = {one["version"]: one for one in answer["model_version_status"]}
    assert set(found) == versions
    for one in found.values():
        assert one["state"] == "AVAILABLE"
        assert one["status"] == {"error_code": "OK", "error_message": ""}


@pytest.mark.parametrize("path", ["iris/metadata", "iris/versions/2/metadata"])
def test_metadata_has_the_signature(server, session, path):
    answer = session.get(server.url(f"/v1/models/{path}")).json()
    assert answer["model_spec"]["name"] == "iris"
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    features = signature["inputs"]["features"]
    assert features["dtype"] == "DT_FLOAT"
    assert [one["size"] for one in features["tensor_shape"]["dim"]] == ["-1", "4"]
    assert set(signature["outputs"]) == {"label", "probabilities"}


def test_models_are_listed(server, session):
    assert {"iris", "affine"} <= set(session.get(server.url("/v1/models")).json()["models"])


@pytest.mark.parametrize(
    "model, body, status, told",
    [
        ("iris", {"instances": ROWS, "inputs": ROWS}, 400, ["instances", "inputs"]),
        ("iris", {}, 400, ["instances", "inputs"]),
        ("iris", {"instances": []}, 400, ["instances"]),
        ("iris", {"instances": [[1, 2]]}, 400, ["features", "4", "2"]),
        ("iris", {"instances": [{"flower": ROW}]}, 400, ["flower", "features"]),
        ("iris", {"instances": ROWS, "surprise": 1}, 400, ["surprise"]),
        ("iris", "no JSON", 400, ["JSON"]),
        ("none", {"instances": ROWS}, 404, ["none"]),
        ("iris/versions/9", {"instances": ROWS}, 404, ["9"]),
    ],
)
def test_errors_tell_what_is_wrong(server, session, model, body, status, told):
    answer = predict(server, session, model, body)
    assert answer.status_code == status
    assert all(part in answer.json()["error"] for part in told), answer.text


@pytest.mark.parametrize("verb", ["classify", "regress", "explain", "predic"])
def test_other_verbs_are_not_found_and_say_so(server, session, verb):
    answer = session.post(server.url(f"/v1/models/iris:{verb}"), json={"instances": ROWS})
    assert answer.status_code in (404, 405, 501)
    assert answer.json()["error"]


def test_values_agree_with_numpy(server, session):
    x, by = np.array(AFFINE["x"]), np.array(AFFINE["by"])
    answer = predict(server, session, "affine", {"inputs": AFFINE}).json()["outputs"]
    np.testing.assert_allclose(answer["moved"], x @ by + 5)
