"""The Open Inference Protocol's JSON, with numpy arrays on this side of it."""

import json

import ml_dtypes
import numpy as np

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
    "object": "BYTES",
}
DTYPES = {datatype: np.dtype(getattr(ml_dtypes, name, name)) for name, datatype in DATATYPES.items()}


def tensor(name, values):
    data = values.ravel()
    if values.dtype.name == "bfloat16":
        data = data.astype(np.float32)  # Python has no bfloat16, which tolist() would leave as it is
    return {
        "name": name,
        "shape": list(values.shape),
        "datatype": DATATYPES[values.dtype.name],
        "data": data.tolist(),
    }


def body(inputs):
    # A missing value is NaN, which has no form in standard JSON; the server reads Python's.
    tensors = [tensor(name, values) for name, values in inputs.items()]
    return json.dumps({"inputs": tensors, "parameters": {"nan": "token"}})


def array(output):
    dtype = DTYPES[output["datatype"]]
    data = output["data"]
    if dtype.kind in "Ofc" or dtype.name == "bfloat16":
        data = np.array(data, object if dtype.kind == "O" else np.float64)
    return np.array(data, dtype).reshape(output["shape"])


def post(server, session, name, inputs):
    return session.post(server.url(f"/v2/models/{name}/infer"), data=body(inputs))


def infer(server, session, name, inputs):
    """The outputs by name."""
    answer = post(server, session, name, inputs)
    assert answer.status_code == 200, answer.text
    return {output["name"]: array(output) for output in answer.json()["outputs"]}


def assert_same(found, wanted, rtol=1e-5, atol=1e-5):
    """Shapes, data types and whole numbers are equal, and floats nearly so."""
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    if found.dtype.kind in "iubO":
        assert found.tolist() == wanted.tolist()
    else:
        np.testing.assert_allclose(found.astype(np.float64), wanted.astype(np.float64), rtol, atol)
