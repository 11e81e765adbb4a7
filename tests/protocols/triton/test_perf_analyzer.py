"""Triton's perf_analyzer, which reads metadata, configuration and statistics before and after it asks."""

import platform
import re

import perf_analyzer
import pytest
from test_models import count, statistics

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="NVIDIA has built it for x86-64 alone")
WAYS = {
    "REST, binary": ("http", []),
    "REST, JSON": ("http", ["--input-tensor-format=json", "--output-tensor-format=json"]),
    "REST, many at once": ("http", ["-a"]),
    "gRPC": ("grpc", []),
    "gRPC, many at once": ("grpc", ["-a"]),
    "gRPC, streaming": ("grpc", ["-a", "--streaming"]),
    "gRPC, compressed": ("grpc", ["--grpc-compression-algorithm", "gzip"]),
}
ASKED = {
    "iris": [],
    "digits": ["-b", "3"],
    "words": ["--string-data", "red"],
    "affine": ["--shape", "x:2,3", "--shape", "by:3,4", "--shape", "shift:4", "--input-data", "zero"],
    "pixels": ["--shape", "picture:3,16,16"],
}
# Three windows of half a second, and any spread: what counts is that the two speak, not how fast.
BRIEF = ["--measurement-interval", "500", "--stability-percentage", "999", "--max-threads", "8"]


def counted(printed, side):
    """The counts that it prints for the client, and for the server from our statistics, one a concurrency."""
    return [int(number) for number in re.findall(rf"^ +{side}: (\d+)", printed, re.MULTILINE)]


@pytest.mark.parametrize("way", WAYS)
def test_loads_with_one_to_eight_requests_at_once(server, http, tmp_path, way):
    protocol, options = WAYS[way]
    before = statistics(http, "iris", "2")
    rows, printed = perf_analyzer.run(
        tmp_path, server, protocol, "-m", "iris", "--concurrency-range", "1:8:7", *BRIEF, *options
    )
    after = statistics(http, "iris", "2")
    assert set(rows) == {1, 8}
    sent, served = counted(printed, "Request count"), counted(printed, "Successful request count")
    # A window's ends cut through what is under way.
    assert all(abs(one - other) <= 8 * 3 + 0.02 * one for one, other in zip(sent, served, strict=True)), printed
    assert count(after, "success") - count(before, "success") >= sum(sent) > 0
    assert count(after, "fail") == count(before, "fail")


# In JSON it takes the first dimension for the batch even where the model has none, and sends too few numbers.
NOT_IN_JSON = {"affine"}
FORMATS = [
    *(("http", "binary", model) for model in ASKED),
    *(("http", "json", model) for model in ASKED if model not in NOT_IN_JSON),
    *(("grpc", "binary", model) for model in ASKED),
]


@pytest.mark.parametrize("protocol, format, model", FORMATS)
def test_asks_any_model(server, tmp_path, protocol, format, model):
    formats = [f"--{side}-tensor-format={format}" for side in ("input", "output")] if protocol == "http" else []
    rows, printed = perf_analyzer.run(tmp_path, server, protocol, "-m", model, *BRIEF, *formats, *ASKED[model])
    assert float(rows[1]["Inferences/Second"]) > 0


def test_rows_and_requests_are_told_apart(server, http, tmp_path):
    """Its inferences are rows, as ours are."""
    before = statistics(http, "digits", "2")
    _, printed = perf_analyzer.run(tmp_path, server, "grpc", "-m", "digits", "-b", "5", *BRIEF)
    after = statistics(http, "digits", "2")
    assert count(after, "fail") == count(before, "fail")
    rows = int(after["inference_count"]) - int(before["inference_count"])
    assert rows == 5 * (count(after, "success") - count(before, "success"))
