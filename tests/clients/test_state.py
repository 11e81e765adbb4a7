"""A request answers from its own inputs alone: what an operator remembers of one, the next may not see."""

import agreement
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

STEPS, WIDTH = 4, 3


def value(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model(name, node, weights=()):
    graph = helper.make_graph([node], name, [value("x", ["steps", 1, WIDTH])], [value("y", None)], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def recurrent(operator, gates):
    random = np.random.default_rng(0)
    sizes = {"w": (1, gates * 2, WIDTH), "r": (1, gates * 2, 2)}
    weights = [
        numpy_helper.from_array(random.normal(size=size).astype(np.float32), name) for name, size in sizes.items()
    ]
    return model(operator, helper.make_node(operator, ["x", "w", "r"], ["y"], hidden_size=2), weights)


def running_sum():
    add = helper.make_node("Add", ["sum", "x"], ["next"])
    copy = helper.make_node("Identity", ["next"], ["y"])
    row = [1, WIDTH]
    body = helper.make_graph([add, copy], "body", [value("sum", row), value("x", row)], [value("next", row), value("y", row)])
    scan = helper.make_node("Scan", ["zero", "x"], ["last", "y"], body=body, num_scan_inputs=1)
    return model("Scan", scan, [numpy_helper.from_array(np.zeros(row, np.float32), "zero")])


MODELS = {name: recurrent(name, gates) for name, gates in {"LSTM": 4, "GRU": 3, "RNN": 1}.items()} | {"Scan": running_sum()}


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with agreement.serving(tmp_path_factory, MODELS) as running:
        yield running


@pytest.mark.parametrize("name", MODELS)
def test_a_request_leaves_nothing_behind(running, session, name):
    x = np.random.default_rng(1).normal(size=(STEPS, 1, WIDTH)).astype(np.float32)
    [wanted] = agreement.runtime(MODELS[name]).run(None, {"x": x})
    for _ in range(4):  # more than there are workers
        agreement.assert_close(agreement.infer(running, session, name, {"x": x}), {"y": wanted}, 1e-5)
