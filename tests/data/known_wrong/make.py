"""Makes the smallest models of the kinds that tract is known to answer wrongly, for the tests that they are refused.

Run in an environment with the packages of models/train/requirements.txt:
    python tests/data/known_wrong/make.py
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]


def save(name, nodes, inputs, outputs, weights=()):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(weights))
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, FOLDER / f"{name}.onnx")


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def recurrent(operator, gates, direction):
    """One recurrent layer of width 1 over sequences of width 1."""
    directions = 2 if direction == "bidirectional" else 1
    weights = [
        numpy_helper.from_array(np.ones((directions, gates, 1), np.float32), "W"),
        numpy_helper.from_array(np.ones((directions, gates, 1), np.float32), "R"),
    ]
    node = helper.make_node(operator, ["x", "W", "R"], ["y"], hidden_size=1, direction=direction)
    x = value("x", TensorProto.FLOAT, ["steps", "batch", 1])
    y = value("y", TensorProto.FLOAT, ["steps", directions, "batch", 1])
    save(f"{operator.lower()}_{direction}", [node], [x], [y], weights)


def forest(name, mode, classes):
    """One tree of one split on `x`, its leaves voting for the last class (binary) or for one each."""
    votes = [classes - 1] * 2 if classes == 2 else [0, 1]
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_modes=[mode, "LEAF", "LEAF"],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        class_treeids=[0, 0],
        class_nodeids=[1, 2],
        class_ids=votes,
        class_weights=[0.2, 0.9],
        classlabels_int64s=list(range(classes)),
    )
    x = value("x", TensorProto.FLOAT, ["batch", 1])
    outputs = [value("label", TensorProto.INT64, ["batch"]), value("scores", TensorProto.FLOAT, ["batch", classes])]
    save(name, [node], [x], outputs)


def quantised():
    weights = [
        numpy_helper.from_array(np.float32(0.1), "scale"),
        numpy_helper.from_array(np.int8(0), "zero"),
        numpy_helper.from_array(np.ones((2, 2), np.int8), "b"),
    ]
    names = ["a", "scale", "zero", "b", "scale", "zero", "scale", "zero"]
    node = helper.make_node("QLinearMatMul", names, ["y"])
    save("qlinearmatmul", [node], [value("a", TensorProto.INT8, ["n", 2])], [value("y", TensorProto.INT8, ["n", 2])], weights)


recurrent("LSTM", 4, "reverse")
recurrent("LSTM", 4, "bidirectional")
recurrent("LSTM", 4, "forward")
recurrent("GRU", 3, "reverse")
recurrent("RNN", 1, "reverse")
forest("forest_binary", "BRANCH_LEQ", 2)
forest("forest_gte", "BRANCH_GTE", 3)
forest("forest_three_classes", "BRANCH_LEQ", 3)
quantised()
