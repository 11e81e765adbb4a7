"""Does the server say what ONNX Runtime says? For models that a test makes or finds."""

import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
from server import Server

QUIET = onnxruntime.SessionOptions()
QUIET.log_severity_level = 3
ALL = slice(None)
ALL_AND_ONE_BY_ONE = [ALL, *(slice(row, row + 1) for row in range(3))]


@contextmanager
def serving(tmp_path_factory, models, **settings):
    """A server of its own for ONNX models, by name. One that does not load fails no test but its own."""
    folder = tmp_path_factory.mktemp("models")
    for name, model in models.items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    with serving_folder(tmp_path_factory, folder, **settings) as running:
        yield running


@contextmanager
def serving_folder(tmp_path_factory, folder, **settings):
    usual = {
        "ONNXD_SERVER__DRAIN_DELAY_MS": "0",
        "ONNXD_REPOSITORY__REQUIRE_ALL": "false",
        "ONNXD_INFERENCE__QUEUE_ROWS": "2048",  # a whole data set at once
    }
    running = Server(tmp_path_factory.mktemp("onnxd"), models=folder, ready_within=120, **usual | settings)
    try:
        yield running
    finally:
        running.kill()


def runtime(model):
    """A session for a model, or for a file, which may have its weights beside it."""
    content = model if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, QUIET, providers=["CPUExecutionProvider"])


def check(server, session, name, model, inputs, batches=[ALL]):
    """The columns that the server answers, against ONNX Runtime's outputs, for slices of the rows."""
    reference = runtime(model)
    for batch in batches:
        rows = {name: values[batch] for name, values in inputs.items()}
        compare(server, session, name, rows, reference.run(None, rows))


def compare(server, session, name, inputs, expected, tolerance=1e-5):
    """The columns that the server answers, against these outputs."""
    # A missing value is NaN, which has no form in standard JSON; the server reads Python's.
    columns = {name: values.tolist() for name, values in inputs.items()}
    body = json.dumps({"inputs": columns, "parameters": {"nan": "token"}})
    answer = session.post(server.url(f"/predict/{name}"), data=body)
    assert answer.status_code == 200, answer.text
    outputs = answer.json()["outputs"]
    found = list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    for values, wanted in zip(found, expected, strict=True):
        assert_equal(values, wanted, tolerance)


def assert_equal(values, wanted, tolerance):
    """One output: floats to a tolerance, all else exactly."""
    if isinstance(wanted, list):  # a ZipMap's, a map a row; JSON's keys are text
        names = [[str(key) for key in row] for row in wanted]
        assert [list(row) for row in values] == names
        values, wanted = ([list(row.values()) for row in rows] for rows in (values, wanted))
        wanted = np.array(wanted, np.float32)
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(np.array(values, wanted.dtype), wanted, rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(np.array(values), wanted)


def infer(server, session, name, inputs):
    """The output tensors by name, as the Open Inference Protocol answers them."""
    tensors = [
        {"name": name, "shape": values.shape, "datatype": DATATYPES[values.dtype.name], "data": short(values)}
        for name, values in inputs.items()
    ]
    answer = session.post(server.url(f"/v2/models/{name}/infer"), json={"inputs": tensors})
    assert answer.status_code == 200, answer.text
    return {
        tensor["name"]: np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        for tensor in answer.json()["outputs"]
    }


DATATYPES = {"float32": "FP32", "int32": "INT32", "int64": "INT64"}


def short(values):
    """A flat list whose floats have few digits where those say it all: images would be megabytes of digits else."""
    if values.dtype == np.float32:
        rounded = values.astype(float).round(4)
        if (rounded.astype(np.float32) == values).all():
            values = rounded
    return values.ravel().tolist()


def assert_close(outputs, wanted, tolerance):
    """All outputs of a network by name, to a share of the largest value that each should have."""
    assert list(outputs) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_allclose(outputs[name], values, rtol=0, atol=tolerance * np.abs(values).max(), err_msg=name)
