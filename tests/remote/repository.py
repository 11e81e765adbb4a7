"""Models in a store, and what they answer."""

import numpy as np
import onnxruntime
import requests
from server import MODELS

ROW = np.array([[6.3, 2.8, 5.1, 1.5]], np.float32)
IRIS = {version: (MODELS / "iris" / str(version) / "model.onnx").read_bytes() for version in (1, 2)}
DIGITS = (MODELS / "digits" / "2" / "model.onnx").read_bytes()


def expected(model):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    [first, *_] = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {first.name: ROW})))


class Repository:
    """The iris models in a store."""

    def __init__(self, store):
        self.store = store

    def put(self, version, model=None, name="iris"):
        self.store.put(f"{name}/{version}/model.onnx", model or IRIS[version])

    def delete(self, version, name="iris"):
        self.store.delete(f"{name}/{version}/model.onnx")


def infer(server, name="iris"):
    metadata = server.get(f"/v2/models/{name}")
    if not metadata.ok:
        return metadata
    [signature] = metadata.json()["inputs"]
    request = {"inputs": [{"name": signature["name"], "shape": [1, 4], "datatype": "FP32", "data": ROW[0].tolist()}]}
    return requests.post(server.url(f"/v2/models/{name}/infer"), json=request, timeout=30)


def serves(server, version, name="iris"):
    """Whether this version answers; whatever answers must be right."""
    answer = infer(server, name)
    if not answer.ok:
        return False
    answer = answer.json()
    right = expected(IRIS[int(answer["model_version"])])
    for output in answer["outputs"]:
        np.testing.assert_allclose(np.ravel(output["data"]), np.ravel(right[output["name"]]), rtol=1e-4, atol=1e-6)
    return answer["model_version"] == str(version)


def health(server):
    return server.get("/health").json()["repository"]
