"""Models of a stated size, whose weights are random so that nothing can share or shrink them."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

FLOAT_BYTES = 4


def heavy(mebibytes, runs=1, width=1024):
    """A chain of matrix products whose weights take so much; it does all of them so many times for each row."""
    layers = mebibytes * (1 << 20) // (FLOAT_BYTES * width * width)
    numbers = np.random.default_rng(mebibytes)
    weights = [
        numpy_helper.from_array(numbers.standard_normal((width, width), np.float32) / width**0.5, f"w{layer}")
        for layer in range(layers)
    ]
    nodes = [
        helper.make_node("MatMul", [f"x{step}" if step else "x", f"w{step % layers}"], [f"x{step + 1}"])
        for step in range(layers * runs)
    ]
    nodes[-1].output[0] = "y"
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width]) for name in "xy"]
    graph = helper.make_graph(nodes, "graph", infos[:1], infos[1:], weights)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
