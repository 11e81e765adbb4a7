"""Loading and unloading from outside, where `repository.mode` allows it."""

import shutil

import clients
import networks
import pytest
from cases import FLOWERS
from clients import raised
from server import MODELS, Server

EXPLICIT = {"ONNXD_REPOSITORY__MODE": "explicit", "ONNXD_SERVER__DRAIN_DELAY_MS": "0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name in ("iris", "wine"):
        shutil.copytree(MODELS / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def explicit(tmp_path_factory, folder):
    running = Server(tmp_path_factory.mktemp("onnxd"), models=folder, **EXPLICIT)
    yield running
    running.kill()


@pytest.fixture(params=clients.CLIENTS)
def client(request, explicit):
    client = clients.Client(request.param, explicit)
    yield client
    client.close()


def state(client, name):
    answer = client.read("get_model_repository_index")
    models = answer["models"] if isinstance(answer, dict) else answer
    return {one["state"] for one in models if one["name"] == name}


def test_model_is_unloaded_and_loaded_again(client):
    client.load_model("iris")
    assert client.is_model_ready("iris")
    client.unload_model("iris")
    assert not client.is_model_ready("iris")
    assert "READY" not in state(client, "iris")
    _, status = raised(lambda: client.ask("iris", FLOWERS))
    assert status in ("503", "UNAVAILABLE", "404", "NOT_FOUND")
    client.load_model("iris")
    assert client.ask("iris", FLOWERS)["label"].tolist() == [0, 2]
    assert state(client, "iris") == {"READY"}


def test_other_models_are_left_alone(client):
    client.load_model("wine")
    client.unload_model("iris")
    assert client.is_model_ready("wine")


def test_model_that_came_later_is_loaded(client, folder):
    (folder / "words.onnx").write_bytes(networks.made()["words"].SerializeToString())
    client.load_model("words")
    assert client.is_model_ready("words")
    client.unload_model("words")


def test_model_that_is_not_there_is_told(client):
    text, status = raised(lambda: client.load_model("none"))
    assert "none" in text
    assert status in ("404", "NOT_FOUND")


def test_model_that_cannot_be_loaded_is_told_with_the_reason(client, folder):
    (folder / "broken.onnx").write_bytes(b"this is no model")
    text, _ = raised(lambda: client.load_model("broken"))
    assert "broken" in text


def test_files_and_configuration_by_request_are_refused(client):
    text, _ = raised(lambda: client.load_model("iris", config='{"max_batch_size": 4}'))
    assert "config" in text
