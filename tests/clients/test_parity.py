"""Every held-out row of every bundled model, through every JSON face: the server says what ONNX Runtime says."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cards
import numpy as np
import onnxruntime
import pytest
from data import held_out
from server import MODELS

VERSIONS = sorted(cards.printed())
EVERYTHING = 10_000  # more rows than there are


# The faces: how a batch is written, and how an output is read.


def write_rows(name, batch):
    return {"instances": batch.tolist()}


def read_rows(answer, output):
    return [row[output] for row in answer["predictions"]]


def write_columns(name, batch):
    return {"inputs": {name: batch.tolist()}}


def read_columns(answer, output):
    return answer["outputs"][output]


def write_protocol(name, batch):
    data = batch.ravel().tolist()
    return {"inputs": [{"name": name, "shape": batch.shape, "datatype": "FP32", "data": data}]}


def read_protocol(answer, output):
    [tensor] = [tensor for tensor in answer["outputs"] if tensor["name"] == output]
    names = isinstance(tensor["data"][0], str)
    assert tensor["datatype"] == {"label": "BYTES" if names else "INT64", "probabilities": "FP32"}[output]
    return np.array(tensor["data"]).reshape(tensor["shape"])


@dataclass
class Face:
    path: str
    write: Callable
    read: Callable


FACES = {
    "rows": Face("/predict/{}/{}", write_rows, read_rows),
    "columns": Face("/predict/{}/{}", write_columns, read_columns),
    "protocol": Face("/predict/{}/{}", write_protocol, read_protocol),
    "v2": Face("/v2/models/{}/versions/{}/infer", write_protocol, read_protocol),
}


# What is right.


@cache
def reference(model, version):
    """The input's name, and ONNX Runtime's labels and probabilities for the held-out rows."""
    path = MODELS / model / version / "model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return name, *session.run(["label", "probabilities"], {name: held_out(model)[0]})


@pytest.mark.parametrize("batch_rows", [1, 7, EVERYTHING], ids=["one", "seven", "all"])
@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("model, version", VERSIONS)
def test_every_face_answers_as_onnx_runtime_does(server, session, model, version, face, batch_rows):
    face = FACES[face]
    name, expected_labels, expected_probabilities = reference(model, version)
    url = server.url(face.path.format(model, version))
    labels, probabilities = [], []
    for batch in batches(held_out(model)[0], batch_rows):
        response = session.post(url, json=face.write(name, batch), timeout=30)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert (answer["model_name"], answer["model_version"]) == (model, version)
        labels.extend(face.read(answer, "label"))
        probabilities.extend(face.read(answer, "probabilities"))
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_allclose(probabilities, expected_probabilities, rtol=1e-5, atol=1e-6)


def batches(rows, size):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


# What the model cards say.


@pytest.mark.parametrize("model, version", VERSIONS)
def test_card_states_the_accuracy_that_the_server_has(server, session, model, version):
    features, truth = held_out(model)
    url = server.url(f"/predict/{model}/{version}")
    answer = session.post(url, json=write_rows(None, features), timeout=30).json()
    right, total = int((read_rows(answer, "label") == truth).sum()), len(truth)
    card = cards.printed()[model, version]
    assert (card["right"], card["total"]) == (str(right), str(total))
    assert card["percent"] == f"{right / total:.1%}"


def test_cards_describe_every_bundled_file():
    files = {path.parts[-3:-1]: str(path.stat().st_size) for path in MODELS.glob("*/*/model.onnx")}
    assert files == {key: card["size"] for key, card in cards.printed().items()}
