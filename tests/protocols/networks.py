"""The networks that the clients ask beside the bundled models: every data type, several inputs, shapes that the
request decides, and one that takes its time."""

import functools
import shutil

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from server import MODELS

ELEMENTS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
BUNDLED = {"iris": 2, "digits": 2, "wine": 1}
LAYERS = 100
node = helper.make_node


def network(nodes, inputs, outputs, weights=None):
    """Inputs and outputs are data types and shapes by name; weights are arrays by name."""
    sides = [
        [helper.make_tensor_value_info(name, ELEMENTS[kind], shape) for name, (kind, shape) in side.items()]
        for side in (inputs, outputs)
    ]
    initializers = [numpy_helper.from_array(values, name) for name, values in (weights or {}).items()]
    graph = helper.make_graph(nodes, "graph", *sides, initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def same(kind):
    """Gives back what it gets."""
    shape = (kind, ["rows", "columns"])
    return network([node("Identity", ["x"], ["y"])], {"x": shape}, {"y": shape})


def affine():
    """Three inputs of two types and two outputs; no dimension is known before the request."""
    nodes = [
        node("MatMul", ["x", "by"], ["scaled"]),
        node("Cast", ["shift"], ["distance"], to=TensorProto.FLOAT),
        node("Add", ["scaled", "distance"], ["moved"]),
        node("ReduceSum", ["moved", "last"], ["total"], keepdims=0),
    ]
    inputs = {"x": ("FP32", ["rows", "inner"]), "by": ("FP32", ["inner", "columns"]), "shift": ("INT64", ["columns"])}
    outputs = {"moved": ("FP32", ["rows", "columns"]), "total": ("FP32", ["rows"])}
    return network(nodes, inputs, outputs, {"last": np.array([1])})


def pixels():
    """A convolution over pictures of any size."""
    kernel = np.sin(np.arange(4 * 3 * 9, dtype=np.float32)).reshape(4, 3, 3, 3)
    nodes = [node("Conv", ["picture", "kernel"], ["features"], pads=[1, 1, 1, 1])]
    inputs = {"picture": ("FP32", ["rows", 3, "height", "width"])}
    outputs = {"features": ("FP32", ["rows", 4, "height", "width"])}
    return network(nodes, inputs, outputs, {"kernel": kernel})


def words():
    """Text to numbers."""
    known = {"keys_strings": ["red", "grün"], "values_int64s": [7, 8], "default_int64": -1}
    nodes = [node("LabelEncoder", ["words"], ["codes"], domain="ai.onnx.ml", **known)]
    return network(nodes, {"words": ("BYTES", ["rows", 2])}, {"codes": ("INT64", ["rows", 2])})


def slow():
    """Takes most of a second for 1,000 rows."""
    names = [f"h{layer}" for layer in range(LAYERS)]
    nodes = []
    for before, after in zip(["x", *names[:-1]], names, strict=True):
        nodes += [node("MatMul", [before, "w"], [f"{after}p"]), node("Tanh", [f"{after}p"], [after])]
    nodes.append(node("Identity", [names[-1]], ["y"]))
    weights = np.cos(np.arange(512 * 512, dtype=np.float32)).reshape(512, 512) / 16
    shape = ("FP32", ["rows", 512])
    return network(nodes, {"x": shape}, {"y": shape}, {"w": weights})


@functools.cache
def made():
    """Networks by name."""
    identities = {f"same_{kind.lower()}": same(kind) for kind in ELEMENTS}
    return identities | {"affine": affine(), "pixels": pixels(), "words": words(), "slow": slow()}


def write(folder):
    """A repository of all networks and the bundled models."""
    for name in BUNDLED:
        shutil.copytree(MODELS / name, folder / name)
    shutil.copy(MODELS / "repository.toml", folder)
    for name, model in made().items():
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    return folder


def model(name):
    """The network, or the version of the bundled model that serves who names none."""
    if name in BUNDLED:
        return onnx.load(MODELS / name / str(BUNDLED[name]) / "model.onnx")
    return made()[name]


@functools.cache
def session(name):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model(name).SerializeToString(), options, providers=["CPUExecutionProvider"])


def truth(name, inputs):
    """What ONNX Runtime answers, by output."""
    if name == "same_bf16":  # which has no form in its Python face
        return {"y": inputs["x"]}
    running = session(name)
    return dict(zip([output.name for output in running.get_outputs()], running.run(None, inputs), strict=True))
