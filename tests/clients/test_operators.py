"""Our own operators of ai.onnx, one by one, against ONNX Runtime."""

from itertools import product

import agreement
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

RANDOM = np.random.default_rng(0)
MODELS = {}


def floats(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def integers(low, high, *shape, dtype=np.int64):
    return RANDOM.integers(low, high, size=shape).astype(dtype)


def graph(name, nodes, inputs, constants, outputs, opset=17):
    """Keeps a model of these nodes; the first dimension of every input is dynamic."""
    kinds = {name: helper.np_dtype_to_tensor_dtype(values.dtype) for name, values in inputs.items()}
    declared = [
        helper.make_tensor_value_info(name, kinds[name], [f"{name}_0", *values.shape[1:]])
        for name, values in inputs.items()
    ]
    answers = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    weights = [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()]
    made = helper.make_graph(nodes, name, declared, answers, weights)
    opsets = [helper.make_opsetid("", opset)]
    assert name not in MODELS
    MODELS[name] = helper.make_model(made, opset_imports=opsets, ir_version=8), inputs


def node(name, operator, inputs, constants=None, outputs=None, opset=17, names=None, **attributes):
    """Keeps a model of one node, its inputs in the order in which they are given."""
    constants, outputs = constants or {}, outputs or {"y": TensorProto.FLOAT}
    names = names or [*inputs, *constants]
    made = helper.make_node(operator, names, list(outputs), **attributes)
    graph(f"{operator}_{name}".lower(), [made], inputs, constants, outputs, opset)


# Recurrent layers

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
ORDER = ["X", "W", "R", "B", "lengths", "h", "c", "P"]


def recurrent(name, operator, direction="forward", given=(), steps=5, rows=3, features=4, width=6, ends=(2, 1), **attributes):
    """A layer with these optional inputs; the sequences of the second and third row end early."""
    directions, gates = 1 + (direction == "bidirectional"), GATES[operator]
    constants = {
        "W": floats(directions, gates * width, features),
        "R": floats(directions, gates * width, width),
        "B": floats(directions, 2 * gates * width),
        "h": floats(directions, rows, width),
        "c": floats(directions, rows, width),
        "P": floats(directions, 3 * width),
    }
    wanted = {"X", "W", "R", *given}
    inputs = {"X": floats(steps, rows, features)}
    if "lengths" in wanted:
        inputs["lengths"] = np.array([steps, *ends][:rows], np.int32)
    names = [name if name in wanted else "" for name in ORDER if name in wanted or operator == "LSTM" or name not in "cP"]
    outputs = ["Y", "Y_h", "Y_c"][: 2 + (operator == "LSTM")]
    node(
        f"{direction}_{name}",
        operator,
        inputs,
        {name: constants[name] for name in ORDER if name in wanted and name in constants},
        dict.fromkeys(outputs, TensorProto.FLOAT),
        names=names,
        hidden_size=width,
        direction=direction,
        **attributes,
    )


for operator, direction in product(GATES, ["forward", "reverse", "bidirectional"]):
    twice = 1 + (direction == "bidirectional")
    own = ["Elu", "HardSigmoid", "Softsign"][: {"LSTM": 3, "GRU": 2, "RNN": 1}[operator]]
    recurrent("bare", operator, direction)
    recurrent("started", operator, direction, ["B", "h", *(["c"] if operator == "LSTM" else [])])
    recurrent("lengths", operator, direction, ["B", "h", "lengths"])
    recurrent("no_steps", operator, direction, ["B", "h", "lengths"], ends=(0, 1))
    recurrent("clip", operator, direction, ["B"], clip=0.5)
    recurrent("activations", operator, direction, ["B"], activations=own * twice, activation_alpha=[0.3, 0.4][: len(own)] * twice)
    recurrent("narrow", operator, direction, ["B"], width=1, features=1)
    recurrent("one", operator, direction, ["B"], steps=1, rows=1)
    if operator == "LSTM":
        recurrent("peepholes", operator, direction, ["B", "P"])
        recurrent("peepholes_lengths", operator, direction, ["B", "P", "lengths"])
        recurrent("coupled", operator, direction, ["B"], input_forget=1)
    if operator == "GRU":
        recurrent("reset_after", operator, direction, ["B"], linear_before_reset=1)
        recurrent("reset_after_lengths", operator, direction, ["B", "lengths"], linear_before_reset=1)


def two_layers(operator, steps, rows, features=4, width=5):
    """Two bidirectional layers as PyTorch exports them: batch and steps dynamic, the states of the batch's size."""
    gates, constants, nodes = GATES[operator], {}, []

    def add(kind, inputs, output, **attributes):
        nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    constants |= {"one": np.array([1]), "two": np.array([2]), "width": np.array([width]), "zero": np.zeros(1, np.float32)}
    constants["merge"] = np.array([0, 0, 2 * width])
    batch = add("Slice", [add("Shape", ["X"], "shape"), "one", "two"], "batch")
    state = add("Expand", ["zero", add("Concat", ["two", batch, "width"], "size", axis=0)], "state")
    values, outputs = "X", {}
    for layer, wide in enumerate([features, 2 * width]):
        constants[f"W{layer}"] = floats(2, gates * width, wide)
        constants[f"R{layer}"] = floats(2, gates * width, width)
        constants[f"B{layer}"] = floats(2, 2 * gates * width)
        states = [state] * (1 + (operator == "LSTM"))
        nodes.append(
            helper.make_node(
                operator,
                [values, f"W{layer}", f"R{layer}", f"B{layer}", "", *states],
                [f"Y{layer}", f"h{layer}"],
                hidden_size=width,
                direction="bidirectional",
                **({"linear_before_reset": 1} if operator == "GRU" else {}),
            )
        )
        turned = add("Transpose", [f"Y{layer}"], f"turned{layer}", perm=[0, 2, 1, 3])
        values = add("Reshape", [turned, "merge"], f"merged{layer}")
        outputs |= {values: TensorProto.FLOAT, f"h{layer}": TensorProto.FLOAT}
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["steps", "rows", features])
    answers = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    weights = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    made = helper.make_graph(nodes, "layers", [x], answers, weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    MODELS[f"layers_{operator}_{steps}_{rows}".lower()] = model, {"X": floats(steps, rows, features)}


for operator, (steps, rows) in product(["LSTM", "GRU"], [(1, 1), (6, 3)]):
    two_layers(operator, steps, rows)


# Quantised products

# ONNX Runtime has none of int8 by uint8.
TYPES = [("int8", "int8"), ("uint8", "int8"), ("uint8", "uint8")]
SHAPES = [((3, 5), (5, 4)), ((2, 3, 5), (5, 4)), ((2, 3, 5), (1, 5, 4))]
for (a, b), shapes, each in product(TYPES, SHAPES, [False, True]):
    if each and len(shapes[1]) > 2:
        continue  # ONNX Runtime takes one scale a column of a matrix only
    columns = (4,) if each else ()
    node(
        f"{a}_{b}_{len(shapes[0])}_{len(shapes[1])}_{each}",
        "QLinearMatMul",
        {"a": integers(np.iinfo(a).min, np.iinfo(a).max + 1, *shapes[0], dtype=a)},
        {
            "a_scale": np.float32(0.05),
            "a_zero": np.array(7, a),
            "b": integers(np.iinfo(b).min, np.iinfo(b).max + 1, *shapes[1], dtype=b),
            "b_scale": RANDOM.uniform(0.01, 0.1, columns).astype(np.float32),
            "b_zero": integers(0, 9, *columns, dtype=b),
            "y_scale": np.float32(0.4),
            "y_zero": np.array(5, a),
        },
        {"y": helper.np_dtype_to_tensor_dtype(np.dtype(a))},
    )

# Pools

for rank, (name, attributes) in product(
    [1, 2, 3],
    {
        "ceil": {"strides": 3, "ceil_mode": 1},
        "ceil_padded": {"strides": 3, "ceil_mode": 1, "pads": 1, "count_include_pad": 1},
        "dilated": {"dilations": 2, "pads": 1},
        "dilated_ceil": {"dilations": 2, "strides": 2, "ceil_mode": 1, "pads": 1, "count_include_pad": 1},
    }.items(),
):
    many = {"strides": rank, "dilations": rank, "pads": 2 * rank}
    attributes = {key: [value] * many[key] if key in many else value for key, value in attributes.items()}
    image = {"x": floats(2, 2, *range(7, 7 + rank))}
    node(f"{rank}_{name}", "AveragePool", image, opset=19, kernel_shape=[2] * rank, **attributes)
    attributes.pop("count_include_pad", None)
    node(f"{rank}_{name}", "MaxPool", image, opset=22, kernel_shape=[2] * rank, **attributes)
    node(f"{rank}_{name}", "LpPool", image, opset=18, kernel_shape=[2] * rank, p=3, **attributes)

# Reductions

INFINITE = np.array([[-np.inf, -np.inf], [1, np.inf]], np.float32)
for operator in ["ReduceMax", "ReduceMin", "ReduceLogSumExp"]:
    cube = {"x": floats(2, 3, 4) * 100}
    for keep in [0, 1]:
        node(f"old_{keep}", operator, cube, keepdims=keep, axes=[-1, 1])
        node(f"new_{keep}", operator, cube, {"axes": np.array([0, -1])}, opset=18, keepdims=keep)
        node(f"none_{keep}", operator, cube, {"axes": np.array([], np.int64)}, opset=18, keepdims=keep)
    node("noop", operator, cube, {"axes": np.array([], np.int64)}, opset=18, noop_with_empty_axes=1)
    masked = {"x": np.where(INFINITE > 0, floats(2, 2), -np.float32(3e38))}
    node("masked", operator, masked, keepdims=0, axes=[1])
for operator in ["ReduceMax", "ReduceMin"]:
    numbers = {"x": integers(-9, 9, 3, 4)}
    node("integers", operator, numbers, outputs={"y": TensorProto.INT64}, axes=[1])

# Selections

for axis in [None, 0, 1]:
    axes = {} if axis is None else {"axis": axis}
    indices = ["indices", "inverse", "counts"]
    answers = {"y": TensorProto.FLOAT} | dict.fromkeys(indices, TensorProto.INT64)
    repeated = {"x": np.round(abs(floats(4, 2)))}
    node(f"{axis}", "Unique", repeated, outputs=answers, **axes)
    node(f"{axis}", "Compress", {"x": floats(3, 4)}, {"c": np.array([True, False, True])}, **axes)
node("unsorted", "Unique", {"x": integers(0, 4, 9)}, outputs={"y": TensorProto.INT64}, sorted=0)
node("time", "ReverseSequence", {"x": floats(4, 3, 2), "l": np.array([4, 2, 1])}, time_axis=0, batch_axis=1)
node("batch", "ReverseSequence", {"x": integers(0, 99, 3, 4), "l": np.array([1, 4, 3])}, outputs={"y": TensorProto.INT64}, time_axis=1, batch_axis=0)
for axis in [-1, 0]:
    classes = {"depth": np.array(5), "values": np.array([2, 7], np.float32)}
    node(f"{axis}", "OneHot", {"x": np.array([[0, 4], [-1, 5], [-6, 2]])}, classes, axis=axis)
for batch_dims in [0, 1]:
    node(f"{batch_dims}", "GatherND", {"x": floats(2, 3, 4), "i": integers(-2, 2, 2, 2)}, batch_dims=batch_dims)
for reduction in ["none", "add", "max"]:
    scattered = {"x": floats(4, 3), "u": floats(2, 3)}
    node(reduction, "ScatterND", scattered, {"i": np.array([[0], [-2]])}, opset=18, names=["x", "i", "u"], reduction=reduction)

# Frames and images

for mode in ["constant", "edge", "reflect", "wrap"]:
    pads = np.array([0, 1, 2, 0, 2, 1])
    node(mode, "Pad", {"x": floats(2, 4, 5)}, {"pads": pads}, opset=19, mode=mode)
    if mode != "wrap":  # where ONNX Runtime crops after it has gone round
        node(f"{mode}_crops", "Pad", {"x": floats(2, 4, 5)}, {"pads": np.array([0, -1, 2, 0, 2, -1])}, mode=mode)
node("value", "Pad", {"x": floats(2, 4)}, {"pads": np.array([0, 1, 0, 2]), "value": np.array([2.5], np.float32)})
node("axes", "Pad", {"x": floats(2, 4, 5)}, {"pads": np.array([1, 2]), "value": np.float32(1), "axes": np.array([-1])}, opset=18)
node("axes", "CenterCropPad", {"x": floats(2, 5, 4)}, {"shape": np.array([3, 7])}, opset=18, axes=[1, -1])
node("nearest", "Upsample", {"x": floats(1, 2, 3, 4)}, {"scales": np.array([1, 1, 2, 1.5], np.float32)}, opset=9)
node("linear", "Upsample", {"x": floats(1, 2, 3, 4)}, {"scales": np.array([1, 1, 2, 3], np.float32)}, opset=9, mode="linear")
node("attribute", "Upsample", {"x": floats(1, 2, 3, 4)}, opset=7, scales=[1.0, 1.0, 2.0, 3.0])
node("plain", "Col2Im", {"x": floats(2, 8, 12)}, {"image": np.array([4, 5]), "block": np.array([2, 2])}, opset=18)
node("padded", "Col2Im", {"x": floats(1, 6, 9)}, {"image": np.array([5, 6]), "block": np.array([3, 1])}, opset=18, strides=[2, 3], pads=[1, 0, 1, 2])
node("stack", "Det", {"x": floats(2, 3, 4, 4)})

for align in [0, 1]:
    node(f"two_{align}", "AffineGrid", {"theta": floats(2, 2, 3)}, {"size": np.array([2, 1, 3, 4])}, opset=20, align_corners=align)
    node(f"three_{align}", "AffineGrid", {"theta": floats(1, 3, 4)}, {"size": np.array([1, 1, 2, 3, 4])}, opset=20, align_corners=align)
    node(f"row_{align}", "AffineGrid", {"theta": floats(2, 2, 3)}, {"size": np.array([2, 1, 1, 4])}, opset=20, align_corners=align)
REGIONS = np.array([[0, 0, 7, 7], [1.5, 2, 5.2, 3], [-3, 4, 9, 12], [3, 3, 3.1, 3.1]], np.float32)
for mode, half, ratio in product(["avg", "max"], ["half_pixel", "output_half_pixel"], [0, 2]):
    image = {"x": floats(2, 3, 8, 9), "rois": REGIONS, "of": np.array([0, 1, 1, 0])}
    sizes = {"output_height": 3, "output_width": 2, "sampling_ratio": ratio, "spatial_scale": 0.8}
    node(f"{mode}_{half}_{ratio}", "RoiAlign", image, mode=mode, coordinate_transformation_mode=half, **sizes)

# Quantised values

UINT8, FLOAT = TensorProto.UINT8, TensorProto.FLOAT
# Halves are ties; the ends saturate.
SPREAD = np.concatenate([np.arange(-20, 20), [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e6, -1e6, 300]]).reshape(4, 2, 6).astype(np.float32)
# What the scale looks like for (4, 2, 6), and the attributes that say so.
LAYOUTS = {
    "tensor": ([], {}),
    "one": ([1], {}),
    "first": ([4], {"axis": 0}),
    "middle": ([2], {}),
    "last": ([6], {"axis": -1}),
    "blocks_first": ([2, 2, 6], {"axis": 0, "block_size": 3}),
    "blocks_middle": ([4, 1, 6], {"block_size": 2}),
    "blocks_last": ([4, 2, 2], {"axis": -1, "block_size": 4}),
    "blocks_of_one": ([4, 2, 6], {"axis": 2, "block_size": 1}),
}
WHOLE = [np.uint8, np.int8, np.uint16, np.int16]


def scales(shape, dtype=np.float32):
    return np.asarray(RANDOM.choice([0.5, 2, 0.3, 1, 0.07], size=shape), dtype)


def zeros(shape, dtype):
    return np.asarray(integers(0, 99, *shape), dtype)


for dtype, (layout, (shape, attributes)) in product(WHOLE, LAYOUTS.items()):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    case = f"{np.dtype(dtype)}_{layout}"
    scale, zero = {"s": scales(shape)}, {"z": zeros(shape, dtype)}
    # Beyond 32 bits ONNX Runtime saturates to the wrong end, in blocks and in FP16.
    spread = {"x": SPREAD if "blocks" not in layout else np.clip(SPREAD, -1e6, 1e6)}
    node(f"{case}", "QuantizeLinear", spread, scale | zero, {"y": kind}, 21, **attributes)
    node(f"{case}_no_zero", "QuantizeLinear", spread, scale, {"y": kind}, 21, output_dtype=kind, **attributes)
    limits = np.iinfo(dtype)
    whole = integers(limits.min, limits.max + 1, 4, 2, 6, dtype=dtype)
    node(f"{case}", "DequantizeLinear", {"x": whole}, scale | zero, opset=21, **attributes)
    node(f"{case}_no_zero", "DequantizeLinear", {"x": whole}, scale, opset=21, **attributes)
    halves = {"s": scales(shape, np.float16)}
    node(f"{case}_halves", "DequantizeLinear", {"x": whole}, halves | zero, {"y": TensorProto.FLOAT16}, 21, **attributes)
    spread = {"x": np.clip(SPREAD, -6e4, 6e4).astype(np.float16)}
    node(f"{case}_halves", "QuantizeLinear", spread, halves | zero, {"y": kind}, 21, **attributes)
for layout, (shape, attributes) in LAYOUTS.items():
    wide = {"x": integers(-(2**31), 2**31, 4, 2, 6, dtype=np.int32)}
    node(f"int32_{layout}", "DequantizeLinear", wide, {"s": scales(shape)}, opset=21, **attributes)
for layout in ["one", "middle"]:
    shape, attributes = LAYOUTS[layout]
    given = {"s": scales(shape), "z": zeros(shape, np.uint8)}
    node(f"given_{layout}", "QuantizeLinear", {"x": SPREAD} | given, outputs={"y": UINT8}, **attributes)
    node(f"given_{layout}", "DequantizeLinear", {"x": integers(0, 256, 4, 2, 6, dtype=np.uint8)} | given, **attributes)
node("default", "QuantizeLinear", {"x": SPREAD}, {"s": np.float32(0.3)}, {"y": UINT8}, 13)
node("list", "QuantizeLinear", {"x": floats(5)}, {"s": scales([5])}, {"y": UINT8}, 13, axis=0)
node("reciprocal", "QuantizeLinear", {"x": floats(5000) * 9}, {"s": np.float32(0.0196078)}, {"y": UINT8}, 13)
for scale in [0, -1, np.nan, 1e-45]:
    node(f"scale_{scale}", "QuantizeLinear", {"x": SPREAD}, {"s": np.float32(scale)}, {"y": UINT8}, 13)
half = {"y": TensorProto.FLOAT16}
node("output", "DequantizeLinear", {"x": integers(0, 9, 4, dtype=np.uint8)}, {"s": np.float32(0.3)}, half, 23, output_dtype=half["y"])
DYNAMIC = [[0, 0], [5, 5], [-3, -3], [1, np.nan, 2], [np.inf, 1], [-np.inf, np.inf], [-127, 128, 0.5], [-253, 257], [3e38, -3e38]]
for number, values in enumerate([*DYNAMIC, floats(500), floats(3, 7) - 2]):
    outputs = {"y": UINT8, "scale": FLOAT, "zero": UINT8}
    node(f"{number}", "DynamicQuantizeLinear", {"x": np.array(values, np.float32)}, outputs=outputs)


def mixed_types(activation):
    """From INT8 by way of a function to UINT8."""
    constants = {"s": np.float32(0.05), "z": np.int8(3), "u": np.uint8(9)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["narrow"]),
        helper.make_node("DequantizeLinear", ["narrow", "s", "z"], ["wide"]),
        helper.make_node(activation, ["wide"], ["active"]),
        helper.make_node("QuantizeLinear", ["active", "s", "u"], ["y"]),
    ]
    graph(f"mixed_{activation}".lower(), nodes, {"x": floats(4, 9) * 3}, constants, {"y": UINT8})


for limit in [1, 2, 9]:
    candidates = {"boxes": floats(2, 6, 4), "scores": floats(2, 3, 6)}
    limited = {"limit": np.array([limit]), "iou": np.float32([0.3]), "score": np.float32([0])}
    node(f"{limit}", "NonMaxSuppression", candidates, limited, {"y": TensorProto.INT64})

for activation in ["Sigmoid", "Relu", "Tanh"]:
    mixed_types(activation)

# Single elements

for alpha in [1.0, 0.4]:
    node(f"{alpha}", "Celu", {"x": floats(3, 4)}, alpha=alpha)
for direction in ["LEFT", "RIGHT"]:
    shifted = {"x": integers(0, 256, 2, 4, dtype=np.uint8)}
    node(direction, "BitShift", shifted, {"by": np.array([0, 1, 7, 3], np.uint8)}, {"y": TensorProto.UINT8}, direction=direction)


@pytest.fixture(scope="module")
def operators(tmp_path_factory):
    with agreement.serving(tmp_path_factory, {name: model for name, (model, _) in MODELS.items()}) as running:
        yield running


@pytest.mark.parametrize("name", MODELS)
def test_operators_answer_like_onnx_runtime(operators, session, name):
    agreement.check(operators, session, name, *MODELS[name])
