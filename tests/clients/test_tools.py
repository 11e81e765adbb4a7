"""The clients that people have at hand, each sending what it sends by default."""

import gzip
import json
import math
import subprocess
import urllib.request
import zlib

import pytest
import requests

FLOWER = {"instances": [[5.1, 3.5, 1.4, 0.2]]}
BODY = json.dumps(FLOWER).encode()


def curl(*arguments, **options):
    command = ["curl", "--silent", "--show-error", "--fail-with-body", *arguments]
    ran = subprocess.run(command, capture_output=True, **options)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def check(answer):
    [flower] = answer["predictions"]
    assert (flower["label"], flower["label_name"]) == (0, "setosa")


def test_curl_that_names_no_content_type(server):
    check(curl(server.url("/predict"), "--data", BODY.decode()))


@pytest.mark.parametrize("coding, compress", [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_curl_with_a_compressed_body(server, coding, compress):
    arguments = ["--header", f"Content-Encoding: {coding}", "--data-binary", "@-"]
    check(curl(server.url("/predict"), *arguments, input=compress(BODY)))


def test_curl_that_waits_for_100_continue(server):
    """What curl does by itself with a body over 1 MB."""
    body = json.dumps({"instances": FLOWER["instances"] * 1000}).ljust(2_000_000).encode()
    answer = curl(server.url("/predict"), "--data-binary", "@-", input=body)
    assert {flower["label"] for flower in answer["predictions"]} == {0}


def test_curl_with_a_chunked_body(server):
    arguments = ["--header", "Transfer-Encoding: chunked", "--data-binary", "@-"]
    check(curl(server.url("/predict"), *arguments, input=BODY))


def test_requests_with_json(server):
    check(requests.post(server.url("/predict"), json=FLOWER, timeout=10).json())


def test_urllib_post(server):
    with urllib.request.urlopen(server.url("/predict"), BODY, timeout=10) as response:
        assert response.headers["Content-Type"] == "application/json"
        check(json.load(response))


def test_nan_as_json_dumps_writes_it(server):
    body = json.dumps({"instances": [[math.nan, math.inf, -math.inf, 0.2]]})
    assert "[NaN, Infinity, -Infinity, 0.2]" in body
    response = requests.post(server.url("/predict/iris"), data=body, timeout=10)
    assert response.status_code == 200, response.text
    [flower] = response.json()["predictions"]
    assert flower["probabilities"] == [None] * 3


def test_nan_comes_back_as_a_token_for_whoever_asks(server):
    body = json.dumps({"instances": [[math.nan] * 4], "parameters": {"nan": "token"}})
    response = requests.post(server.url("/predict/iris"), data=body, timeout=10)
    [flower] = response.json()["predictions"]
    assert all(math.isnan(probability) for probability in flower["probabilities"])
