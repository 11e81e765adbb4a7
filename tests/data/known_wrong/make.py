"""Makes small models of what tract is known to answer wrongly, which are refused, each with a sibling that is not.

Run in an environment with the packages of models/train/requirements.txt:
    python tests/data/known_wrong/make.py
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = Path(__file__).parent


def save(name, nodes, inputs, outputs, weights=(), opset=17):
    graph = helper.make_graph(nodes, name, inputs, outputs, list(weights))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, FOLDER / f"{name}.onnx")


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def one(name, operator, shapes, opset=17, **attributes):
    """One node over inputs of these shapes."""
    inputs = [value(f"x{index}", TensorProto.FLOAT, shape) for index, shape in enumerate(shapes) if shape]
    names = [f"x{index}" if shape else "" for index, shape in enumerate(shapes)]
    node = helper.make_node(operator, names, ["y"], **attributes)
    save(name, [node], inputs, [value("y", TensorProto.FLOAT, list("abcd"))], opset=opset)


def resized(name, scale):
    """A picture made larger with its corners aligned."""
    scales = numpy_helper.from_array(np.array([1, 1, scale, scale], np.float32), "scales")
    attributes = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], **attributes)
    image = [value("x", TensorProto.FLOAT, [1, 1, 3, 3])]
    save(name, [node], image, [value("y", TensorProto.FLOAT, list("abcd"))], [scales])


def dropout(name, *, of_request):
    """A Dropout whose training mode is an input, or is written down."""
    mode = numpy_helper.from_array(np.array(False), "mode")
    inputs = [value("x", TensorProto.FLOAT, [2]), *([value("mode", TensorProto.BOOL, [])] if of_request else [])]
    node = helper.make_node("Dropout", ["x", "", "mode"], ["y"])
    save(name, [node], inputs, [value("y", TensorProto.FLOAT, [2])], [] if of_request else [mode])


def boxes(name, limit):
    """The best of some boxes, with or without a limit of their number."""
    shapes = {"boxes": [1, 2, 4], "scores": [1, 1, 2]}
    inputs = [value(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    node = helper.make_node("NonMaxSuppression", [*shapes, *limit], ["y"])
    weights = [numpy_helper.from_array(np.array([1]), name) for name in limit]
    save(name, [node], inputs, [value("y", TensorProto.INT64, ["n", 3])], weights)


HEADS, IMAGE, GRID = [1, 1, 4, 2], [1, 1, 4, 4], [1, 2, 2, 2]
one("attention", "Attention", [HEADS] * 3, opset=24, is_causal=1)
one("attention_past", "Attention", [HEADS, HEADS, HEADS, None, HEADS, HEADS], opset=24, is_causal=1)
one("attention_window", "Attention", [HEADS] * 3, opset=25, is_causal=1, left_window_size=1)
one("grid_sample", "GridSample", [IMAGE, GRID], mode="bicubic", padding_mode="zeros")
one("grid_sample_border", "GridSample", [IMAGE, GRID], mode="bicubic", padding_mode="border")
one("space_to_depth", "SpaceToDepth", [IMAGE], blocksize=2)
one("space_to_depth_columns", "SpaceToDepth", [IMAGE], opset=28, blocksize=2, mode="CRD")
dropout("dropout", of_request=False)
dropout("dropout_mode", of_request=True)
boxes("boxes", ["limit"])
boxes("boxes_unlimited", [])
resized("resize", 2)
resized("resize_fraction", 1.5)
