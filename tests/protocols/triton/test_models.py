"""What Triton's clients read about the server and its models."""

import time

import networks
import numpy as np
import pytest
from cases import FLOWERS
from clients import raised

EXTENSIONS = {
    "binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters",
    "schedule_policy", "statistics",
}  # fmt: skip


def number(value):
    """protobuf's JSON writes 64-bit integers as text."""
    return [int(one) for one in value] if isinstance(value, list) else int(value)


def test_server_tells_its_name_version_and_what_it_can(client):
    answer = client.read("get_server_metadata")
    assert answer["name"] == "onnxd"
    assert answer["version"]
    assert EXTENSIONS <= set(answer["extensions"])


def test_server_is_live_and_ready(client):
    assert client.is_server_live() is True
    assert client.is_server_ready() is True


@pytest.mark.parametrize(
    "model, version, ready",
    [("iris", "", True), ("iris", "1", True), ("iris", "9", False), ("none", "", False), ("a b/c?d", "", False)],
)
def test_model_is_ready_or_not(client, model, version, ready):
    assert client.is_model_ready(model, version) is ready


@pytest.mark.parametrize(
    "model", [*networks.BUNDLED, "affine", "pixels", "words", "same_bf16", "same_fp16", "same_bytes"]
)
def test_metadata_names_inputs_and_outputs(client, model):
    answer = client.read("get_model_metadata", model)
    assert answer["name"] == model
    assert answer["platform"] == "onnx_onnxv1"
    assert answer["versions"] == (["1", "2"] if model in ("iris", "digits") else ["1"])
    for side, field in (("inputs", "input"), ("outputs", "output")):
        assert [(one["name"], one["datatype"], number(one["shape"])) for one in answer[side]] == list(
            declared(model, field)
        )


def declared(model, field):
    """What the model file says of its inputs or outputs."""
    kinds = {number: kind for kind, number in networks.ELEMENTS.items()}
    for tensor in getattr(networks.model(model).graph, field):
        kind = tensor.type.tensor_type
        shape = [one.dim_value if one.HasField("dim_value") else -1 for one in kind.shape.dim]
        yield tensor.name, kinds[kind.elem_type], shape


def test_metadata_of_one_version(client):
    answer = client.read("get_model_metadata", "iris", "1")
    assert answer["name"] == "iris"


@pytest.mark.parametrize("model", ["iris", "affine", "pixels", "words", "same_bf16"])
def test_configuration_agrees_with_the_metadata(client, model):
    """What lies behind the batch dimension, where there is one."""
    answer = client.read("get_model_config", model)
    config = answer.get("config", answer)
    metadata = client.read("get_model_metadata", model)
    assert config["name"] == model
    assert config["platform"] == "onnxruntime_onnx" or config["platform"] == metadata["platform"]
    batched = int(config["max_batch_size"]) > 0
    for side, described in (("input", metadata["inputs"]), ("output", metadata["outputs"])):
        for one, tensor in zip(config[side], described, strict=True):
            kind = {"BYTES": "STRING"}.get(tensor["datatype"], tensor["datatype"])
            shape = number(tensor["shape"])
            assert (one["name"], one["data_type"]) == (tensor["name"], f"TYPE_{kind}")
            assert number(one["dims"]) == (shape[1:] if batched else shape)
            assert not batched or shape[0] == -1


@pytest.mark.parametrize("call", ["get_model_metadata", "get_model_config", "get_inference_statistics"])
@pytest.mark.parametrize("asked", [("none",), ("iris", "9")])
def test_unknown_model_or_version_is_not_found(client, call, asked):
    text, status = raised(lambda: client.read(call, *asked))
    assert status == ("404" if client.is_http else "NOT_FOUND")
    assert asked[-1] in text


def test_index_lists_every_version_of_every_model(client):
    answer = client.read("get_model_repository_index")
    models = answer["models"] if isinstance(answer, dict) else answer
    listed = {(one["name"], one["version"]): one["state"] for one in models}
    assert {("iris", "1"), ("iris", "2"), ("wine", "1"), *((name, "1") for name in networks.made())} <= set(listed)
    assert set(listed.values()) == {"READY"}


# Statistics.

PHASES = ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"]


def statistics(client, *asked):
    [only] = client.read("get_inference_statistics", *asked)["model_stats"]
    return only


def count(stats, phase):
    return int(stats["inference_stats"][phase]["count"])


def test_statistics_count_requests_rows_and_failures(client):
    before = statistics(client, "same_int16", "1")
    for rows in (1, 3):
        client.ask("same_int16", {"x": np.zeros((rows, 2), np.int16)})
    raised(lambda: client.ask("same_int16", {"x": np.zeros((1, 2), np.int32)}))
    after = statistics(client, "same_int16", "1")
    assert (after["name"], after["version"]) == ("same_int16", "1")
    assert count(after, "success") - count(before, "success") == 2
    assert count(after, "fail") - count(before, "fail") == 1
    assert int(after["inference_count"]) - int(before["inference_count"]) == 4
    assert 1 <= int(after["execution_count"]) - int(before["execution_count"]) <= 2
    assert abs(int(after["last_inference"]) / 1000 - time.time()) < 60
    for phase in PHASES:
        assert int(after["inference_stats"][phase]["ns"]) >= int(before["inference_stats"][phase]["ns"])
    assert int(after["inference_stats"]["compute_infer"]["ns"]) > 0
    parts = sum(int(after["inference_stats"][phase]["ns"]) for phase in PHASES[2:6])
    assert parts <= int(after["inference_stats"]["success"]["ns"]) + int(after["inference_stats"]["fail"]["ns"])


def test_statistics_by_batch_size_add_up(client):
    client.ask("iris", FLOWERS)
    stats = statistics(client, "iris", "2")
    sizes = {int(one["batch_size"]): int(one["compute_infer"]["count"]) for one in stats["batch_stats"]}
    assert sum(sizes.values()) <= int(stats["execution_count"])
    assert 2 in sizes


def test_statistics_of_all_models_name_each(client):
    names = {one["name"] for one in client.read("get_inference_statistics")["model_stats"]}
    assert {"iris", "digits", "wine", *networks.made()} <= names


def test_load_and_unload_are_refused_unless_enabled(client):
    for call in ("load_model", "unload_model"):
        text, status = raised(lambda call=call: getattr(client, call)("iris"))
        assert "explicit" in text, (text, status)
    assert client.is_model_ready("iris")
