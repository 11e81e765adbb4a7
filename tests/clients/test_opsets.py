"""The same small model in every operator set from 7 to the newest, against ONNX Runtime."""

import agreement
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

OLDEST, NEWEST = 7, onnx.defs.onnx_opset_version()
# What ONNX Runtime knows; in later ones these operators are the same.
NEWEST_OF_RUNTIME = 26
node = helper.make_node


def weight(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


def model(opset):
    """Gemm, BatchNormalization, Relu, Reshape, Unsqueeze, Squeeze, ReduceMean, ReduceSum, Softmax and their like, each
    in the form that its operator set has: what was an attribute became an input, of each at another time."""
    random = np.random.default_rng(0)
    weights = [
        weight("w", random.normal(size=(4, 6))),
        weight("b", random.normal(size=6)),
        *(weight(name, random.uniform(0.5, 1.5, 6)) for name in ("scale", "bias", "mean", "variance")),
        weight("to", [-1, 2, 3], np.int64),
    ]

    def with_list(operator, inputs, outputs, key, values, since, **attributes):
        """An operator whose list is an attribute before `since`, and an input from then on."""
        if opset < since:
            return node(operator, inputs, outputs, **{key: values}, **attributes)
        name = f"{outputs[0]}_{key}"
        weights.append(weight(name, values, np.int64))
        return node(operator, [*inputs, name], outputs, **attributes)

    if opset < 11:
        clip = node("Clip", ["n"], ["c"], min=-2.0, max=2.0)
    else:
        weights.extend([weight("low", -2), weight("high", 2)])
        clip = node("Clip", ["n", "low", "high"], ["c"])
    if opset < 10:
        cut = node("Slice", ["r"], ["k"], starts=[0], ends=[2], axes=[2])
    else:
        weights.extend(weight(name, [value], np.int64) for name, value in [("from", 0), ("till", 2), ("along", 2)])
        cut = node("Slice", ["r", "from", "till", "along"], ["k"])
    nodes = [
        node("Gemm", ["x", "w", "b"], ["g"]),
        node("BatchNormalization", ["g", "scale", "bias", "mean", "variance"], ["n"]),
        clip,
        node("Relu", ["c"], ["l"]),
        node("Reshape", ["l", "to"], ["r"]),
        cut,
        with_list("Unsqueeze", ["k"], ["u"], "axes", [1], since=13),
        with_list("Squeeze", ["u"], ["s"], "axes", [1], since=13),
        with_list("ReduceMean", ["s"], ["m"], "axes", [2], since=18, keepdims=0),
        with_list("ReduceSum", ["s"], ["t"], "axes", [2], since=13, keepdims=0),
        with_list("ReduceMax", ["s"], ["a"], "axes", [2], since=18, keepdims=0),
        node("Concat", ["m", "t", "a"], ["j"], axis=1),
        *padded(opset, weights),
        node("Softmax", ["p"], ["y"], axis=1),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 7])
    graph = helper.make_graph(nodes, "graph", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4 if opset < 9 else 8)


def padded(opset, weights):
    if opset < 11:
        return [node("Pad", ["j"], ["p"], pads=[0, 0, 0, 1], value=0.5)]
    weights.extend([weight("pads", [0, 0, 0, 1], np.int64), weight("with", 0.5)])
    return [node("Pad", ["j", "pads", "with"], ["p"])]


MODELS = {opset: model(opset) for opset in range(OLDEST, NEWEST + 1)}
X = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def opsets(tmp_path_factory):
    with agreement.serving(tmp_path_factory, {f"opset_{opset}": made for opset, made in MODELS.items()}) as running:
        yield running


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("opset", MODELS)
def test_every_operator_set_answers_like_onnx_runtime(opsets, session, opset, rows):
    agreement.check(opsets, session, f"opset_{opset}", MODELS[min(opset, NEWEST_OF_RUNTIME)], {"x": X[:rows]})
