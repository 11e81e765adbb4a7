"""Does the server say what ONNX Runtime says? For models that a test makes."""

import json
from contextlib import contextmanager

import numpy as np
import onnxruntime
from server import Server

QUIET = onnxruntime.SessionOptions()
QUIET.log_severity_level = 3


@contextmanager
def serving(tmp_path_factory, models, **environment):
    """A server of its own for ONNX models, by name."""
    folder = tmp_path_factory.mktemp("models")
    for name, model in models.items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    running = Server(tmp_path_factory.mktemp("onnxd"), models=folder, ONNXD_SERVER__DRAIN_DELAY_MS="0", **environment)
    try:
        yield running
    finally:
        running.kill()


def check(server, session, name, model, inputs):
    """The columns that the server answers, against ONNX Runtime's outputs."""
    runtime = onnxruntime.InferenceSession(model.SerializeToString(), QUIET)
    expected = runtime.run(None, inputs)
    # A missing value is NaN, which has no form in standard JSON; the server reads Python's.
    columns = {name: values.tolist() for name, values in inputs.items()}
    body = json.dumps({"inputs": columns, "parameters": {"nan": "token"}})
    answer = session.post(server.url(f"/predict/{name}"), data=body)
    assert answer.status_code == 200, answer.text
    outputs = answer.json()["outputs"]
    found = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    for values, wanted in zip(found, expected, strict=True):
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(np.array(values, wanted.dtype), wanted, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(np.array(values), wanted)
