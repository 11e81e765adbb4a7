"""One test of ONNX's own: a model, what goes in, what must come out, and whether a server can be asked at all."""

from dataclasses import dataclass
from functools import cached_property

import onnx
from onnx import TensorProto

# ONNX's element types that the Open Inference Protocol carries, by its names.
DATATYPES = {
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}

RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
LOSSES = {"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"}


@dataclass(frozen=True)
class Case:
    suite: str
    name: str
    model: onnx.ModelProto
    # Each a list of inputs and a list of outputs, as arrays in the graph's order; empty if not comparable.
    data_sets: list
    # The operators that the case is about, as (domain, name).
    operators: tuple
    # Whether the operator's function body stands in the operator's place.
    expanded: bool = False
    rtol: float = 1e-3
    atol: float = 1e-7

    @property
    def id(self):
        return f"{self.suite}/{self.name}"

    @property
    def model_name(self):
        """As the server's repository and URLs can write it."""
        return self.id.replace("/", ".")

    @property
    def is_loss(self):
        return any(name in LOSSES for _, name in self.operators)

    @cached_property
    def is_random(self):
        """Whether two runs differ, so that only shapes and types can be compared."""
        if any(node.op_type in RANDOM for node in nodes(self.model.graph)):
            return True
        # Dropout draws in training mode, unless it is told to drop nothing.
        return self.name.startswith("test_training_dropout") and "zero_ratio" not in self.name


def inputs(graph):
    """What a client sends: initializers may be listed as inputs too, and are not."""
    constants = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in constants]


def nodes(graph):
    """All of a graph's nodes, with those of the graphs in their attributes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from nodes(inner)


def key(node):
    return (node.domain or "ai.onnx", node.op_type)


def left_out_for(model):
    """Why no server could be asked, or None."""
    if any("training" in node.domain for node in nodes(model.graph)):
        return "trains a model"
    for value in [*inputs(model.graph), *model.graph.output]:
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            return f"takes or gives values of the kind {kind.removesuffix('_type').replace('_', ' ')}"
        element = value.type.tensor_type.elem_type
        if element not in DATATYPES:
            return f"takes or gives {TensorProto.DataType.Name(element).lower()} tensors"
    return None
