"""The ONNX Runtime engine by itself, with the library of the Python package that the answers are compared with."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import agreement
import numpy as np
import onnx
import onnxruntime
import pytest
import requests
from onnx import TensorProto, helper, numpy_helper
from polling import wait_until
from server import Server
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn import datasets, linear_model

[LIBRARY] = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
SETTINGS = {
    "ORT_DYLIB_PATH": str(LIBRARY),
    "ONNXD_INFERENCE__ENGINE": "onnxruntime",
    "ONNXD_SERVER__DRAIN_DELAY_MS": "0",
    "ONNXD_REPOSITORY__REQUIRE_ALL": "false",
}
ROWS = ["rows"]
# By the names of the Open Inference Protocol, with values at the edges.
VALUES = {
    "BOOL": (TensorProto.BOOL, [True, False]),
    "UINT8": (TensorProto.UINT8, [0, 255]),
    "UINT16": (TensorProto.UINT16, [0, 2**16 - 1]),
    "UINT32": (TensorProto.UINT32, [0, 2**32 - 1]),
    "UINT64": (TensorProto.UINT64, [0, 2**64 - 1]),
    "INT8": (TensorProto.INT8, [-128, 127]),
    "INT16": (TensorProto.INT16, [-(2**15), 2**15 - 1]),
    "INT32": (TensorProto.INT32, [-(2**31), 2**31 - 1]),
    "INT64": (TensorProto.INT64, [-(2**63), 2**63 - 1]),
    "FP16": (TensorProto.FLOAT16, [0.5, -65504.0]),
    "BF16": (TensorProto.BFLOAT16, [0.5, -2.0]),
    "FP32": (TensorProto.FLOAT, [0.5, -16777215.0]),
    "FP64": (TensorProto.DOUBLE, [0.5, -9007199254740991.0]),
    "BYTES": (TensorProto.STRING, ["", "žlutý kůň"]),
}


def model(nodes, inputs, outputs, initializers=(), opset=17):
    """Inputs and outputs are element types and shapes by name."""
    infos = [[helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()] for kinds in (inputs, outputs)]
    graph = helper.make_graph(nodes, "graph", *infos, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def identity(kind, shape=ROWS):
    return model([helper.make_node("Identity", ["x"], ["y"])], {"x": (kind, shape)}, {"y": (kind, shape)})


def layers():
    """Enough work that runs meet each other."""
    weights = np.random.default_rng(0).standard_normal((2, 256, 256)).astype(np.float32) / 16
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"]),
        helper.make_node("Tanh", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "w1"], ["y"]),
    ]
    initializers = [numpy_helper.from_array(values, f"w{place}") for place, values in enumerate(weights)]
    wide = (TensorProto.FLOAT, ["rows", 256])
    return model(nodes, {"x": wide}, {"y": wide}, initializers)


def labelled():
    data = datasets.load_iris()
    names = np.array(["setosa", "versicolor", "virginica"])
    fitted = linear_model.LogisticRegression(max_iter=200).fit(data.data, names[data.target])
    return to_onnx(fitted, initial_types=[("X", FloatTensorType([None, 4]))], target_opset={"": 17, "ai.onnx.ml": 3})


def filled(elements):
    """Asks for so many numbers that no file holds."""
    nodes = [
        helper.make_node("ConstantOfShape", ["n"], ["c"], value=numpy_helper.from_array(np.array([1.5], np.float32))),
        helper.make_node("ReduceSum", ["c"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    count = numpy_helper.from_array(np.array([elements], np.int64), "n")
    kind = (TensorProto.FLOAT, ROWS)
    return model(nodes, {"x": kind}, {"y": kind}, [count])


def joined():
    """Runs only where both inputs have as many rows, which nothing declares."""
    kinds = {"a": (TensorProto.FLOAT, ["m", 2]), "b": (TensorProto.FLOAT, ["n", 3])}
    node = helper.make_node("Concat", ["a", "b"], ["y"], axis=1, name="join")
    return model([node], kinds, {"y": (TensorProto.FLOAT, [None, 5])})


def divided():
    kind = (TensorProto.INT64, ROWS)
    return model([helper.make_node("Div", ["x", "by"], ["y"])], {"x": kind, "by": kind}, {"y": kind})


def framed():
    inputs = {"x": (TensorProto.FLOAT, [1, 128, 1]), "step": (TensorProto.INT64, []), "length": (TensorProto.INT64, [])}
    node = helper.make_node("STFT", ["x", "step", "", "length"], ["y"])
    return model([node], inputs, {"y": (TensorProto.FLOAT, [1, None, None, 2])})


def unknown():
    made = identity(TensorProto.FLOAT)
    made.graph.node[0].op_type = "Frobnicate"
    return made


MODELS = {
    **{f"identity_{name.lower()}": identity(kind) for name, (kind, _) in VALUES.items()},
    "handed_through": identity(TensorProto.FLOAT, ["rows", 4096]),
    "layers": layers(),
    "labelled": labelled(),
    "joined": joined(),
    # More than any machine has.
    "huge": filled(2**44),
    "divided": divided(),
    "framed": framed(),
    "unknown": unknown(),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, made in MODELS.items():
        (folder / f"{name}.onnx").write_bytes(made.SerializeToString())
    (folder / "external").mkdir()
    onnx.save(layers(), folder / "external" / "model.onnx", save_as_external_data=True, location="weights.bin")
    running = Server(tmp_path_factory.mktemp("onnxd"), models=folder, **SETTINGS)
    try:
        yield running
        assert running.stop() == 0, running.log.read_text()
    finally:
        running.kill()


@pytest.fixture(scope="module")
def session():
    with requests.Session() as session:
        yield session


def tensors(server, session, name, inputs):
    return session.post(server.url(f"/v2/models/{name}/infer"), json={"inputs": inputs})


def reason(server, name):
    models = server.get("/health").json()["models"]
    return next(model["reason"] for model in models if model["name"] == name)


@pytest.mark.parametrize("datatype", VALUES)
def test_every_data_type_comes_back_as_it_was_sent(server, session, datatype):
    values = VALUES[datatype][1]
    sent = {"name": "x", "shape": [2], "datatype": datatype, "data": values}
    answer = tensors(server, session, f"identity_{datatype.lower()}", [sent])
    assert answer.status_code == 200, answer.text
    [got] = answer.json()["outputs"]
    assert (got["datatype"], got["shape"], got["data"]) == (datatype, [2], values)


def test_no_rows_are_no_rows(server, session):
    answer = tensors(server, session, "identity_fp32", [{"name": "x", "shape": [0], "datatype": "FP32", "data": []}])
    assert answer.json()["outputs"][0]["shape"] == [0], answer.text


def test_a_string_that_ends_early_in_c_is_refused(server, session):
    sent = {"name": "x", "shape": [1], "datatype": "BYTES", "data": ["a\0b"]}
    answer = tensors(server, session, "identity_bytes", [sent])
    assert answer.status_code == 400
    assert "zero byte" in answer.json()["error"]


def test_maps_of_labels_come_as_named_columns(server, session):
    rows = datasets.load_iris().data[::10].astype(np.float32)
    agreement.check(server, session, "labelled", MODELS["labelled"], {"X": rows}, agreement.ALL_AND_ONE_BY_ONE)


@pytest.mark.parametrize("name", ["layers", "external"])
def test_many_requests_at_once_each_get_their_own_answer(server, name):
    rows = np.random.default_rng(1).standard_normal((64, 3, 256)).astype(np.float32)
    reference = agreement.runtime(MODELS["layers"])
    expected = [reference.run(None, {"x": row})[0] for row in rows]

    def ask(place):
        with requests.Session() as session:
            return [agreement.infer(server, session, name, {"x": rows[place]})["y"] for _ in range(8)]

    with ThreadPoolExecutor(16) as pool:
        for wanted, answers in zip(expected, pool.map(ask, range(len(rows))), strict=True):
            for got in answers:
                np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def test_an_input_that_is_handed_through_is_not_another_requests(server):
    """ONNX Runtime may answer with the memory of the request itself, which is gone soon."""

    def ask(place):
        values = np.full((1, 4096), place, np.float32)
        with requests.Session() as session:
            answers = [agreement.infer(server, session, "handed_through", {"x": values})["y"] for _ in range(8)]
        return all((answer == values).all() for answer in answers)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(64)))


def test_a_run_that_fails_is_told_in_the_log_without_the_places_in_its_sources(server, session):
    sent = [
        {"name": "a", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]},
        {"name": "b", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]},
    ]
    assert tensors(server, session, "joined", sent).status_code == 500
    [told] = wait_until(lambda: failures(server), 10, "the failure is in the log")
    assert "operator Concat (node 'join')" in told
    assert ".cc" not in told and "onnxruntime::" not in told


def failures(server):
    entries = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [entry["reason"] for entry in entries if entry.get("status") == 500]


def test_what_is_refused_is_told_by_its_name(server):
    assert "Frobnicate" in reason(server, "unknown")
    assert "memory" in reason(server, "huge")


@pytest.mark.parametrize("name, operator", [("divided", "Div"), ("framed", "STFT")])
def test_what_a_request_could_end_the_server_with_is_refused(server, name, operator):
    told = reason(server, name)
    assert f"operator {operator}" in told
    assert "would end ONNX Runtime" in told
