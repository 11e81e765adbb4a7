"""Model files that are broken or made to do harm: each is refused with its reason, and the others serve."""

import subprocess
import threading

import numpy as np
import pytest
import requests
import v2
from onnx import TensorProto, helper, numpy_helper
from server import BINARY, DEFAULTS, Server, onnxruntime
from trial import Trial

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
# ONNX Runtime keeps more of the deepest models.
MOST_BYTES = (400 if DEFAULTS == onnxruntime(False) else 600) << 20
DEEP = 20_000
node = helper.make_node


def value(name, dims, element=FLOAT):
    return helper.make_tensor_value_info(name, element, dims)


def weight(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


def declared(dims, data=b"", element=FLOAT):
    """A tensor that says one thing and may hold another."""
    return TensorProto(name="w", dims=dims, data_type=element, raw_data=data)


def graph(nodes, inputs, outputs, weights=(), opset=17):
    made = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def model(nodes, weights=(), x=("rows", 4), y=None, **options):
    return graph(nodes, [value("x", x)], [value("y", y)], weights, **options)


def chain(operator, length, *others, weights=()):
    """One node after the other."""
    nodes = [node(operator, [f"h{at}", *others], [f"h{at + 1}"]) for at in range(length)]
    return model([node("Identity", ["x"], ["h0"]), *nodes, node("Identity", [f"h{length}"], ["y"])], weights)


def with_tensor(tensor):
    return model([node("Add", ["x", "w"], ["y"])], [tensor])


def varint(number):
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def nested_ifs(depth):
    """What Python's protobuf refuses to build."""
    def branch(name, content):
        return field(5, field(1, name) + field(6, content) + varint(20 << 3) + varint(5))

    inner = field(1, field(1, b"x") + field(2, b"o0") + field(4, b"Identity")) + field(12, field(1, b"o0"))
    other = inner
    for level in range(1, depth + 1):
        name = b"o%d" % level
        branches = branch(b"then_branch", inner) + branch(b"else_branch", other)
        inner = field(1, field(1, b"cond") + field(2, name) + field(4, b"If") + branches)
        inner += field(12, value(name.decode(), ["rows", 4]).SerializeToString())
    inputs = [value("x", ["rows", 4]), value("cond", [], TensorProto.BOOL)]
    inner += b"".join(field(11, one.SerializeToString()) for one in inputs)
    return varint(1 << 3) + varint(8) + field(7, inner) + field(8, varint(2 << 3) + varint(17))


GOOD = model([node("Mul", ["x", "w"], ["y"])], [weight("w", [1, 2, 3, 4])])
TRUNCATED = {f"cut_{at}": GOOD[:at] for at in range(0, len(GOOD), 7)}
NOISE = np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes()
add = node("Add", ["x", "w"], ["y"])

# The file, and what the reason says.
REFUSED = {name: (data, "not an ONNX model") for name, data in TRUNCATED.items()} | {
    "noise": (NOISE, "not an ONNX model"),
    "cycle": (model([node("Add", ["x", "b"], ["a"]), node("Neg", ["a"], ["b"]), node("Neg", ["b"], ["y"])]), "a cycle"),
    "self": (model([node("Add", ["x", "y"], ["y"], name="me")]), "operator Add (node 'me'): it waits for its own output"),
    "of_2_40": (with_tensor(declared([2**40])), "tensor 'w' of shape [1099511627776]: it holds 0 elements"),
    "of_2_40_bytes": (with_tensor(declared([2**20, 2**20], bytes(64))), "needs 4398046511104 bytes and holds 64"),
    "of_2_124": (with_tensor(declared([2**62, 2**62])), "more elements than can be addressed"),
    "negative": (with_tensor(declared([-1, 4], bytes(16))), "tensor 'w' of shape [-1,4]: a dimension is negative"),
    "short": (with_tensor(declared([4], bytes(15))), "tensor 'w' of shape [4]: it needs 16 bytes and holds 15"),
    "long": (with_tensor(declared([4], bytes(17))), "tensor 'w' of shape [4]: it needs 16 bytes and holds 17"),
    "element": (with_tensor(declared([4], bytes(16), 99)), "tensor 'w' of shape [4]: its element type 99"),
    "undefined": (model([node("Add", ["x", "nowhere"], ["y"])]), "reads 'nowhere', which nothing in the graph gives"),
    "no_output": (model([node("Neg", ["x"], ["z"])]), "output 'y' is given by nothing"),
    "twice": (model([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])]), "its output 'y' has the name of something"),
    "input_twice": (graph([node("Relu", ["x"], ["y"])], [value("x", [4])] * 2, [value("y", [4])]), "input 'x' is there twice"),
    "ifs_100": (nested_ifs(100), "recursion limit reached"),
    "ifs_5000": (nested_ifs(5000), "recursion limit reached"),
    "operator": (model([node("Mystery", ["x"], ["y"], name="m")]), "operator Mystery (node 'm') is not supported"),
    "attribute": (model([node("Concat", ["x", "x"], ["y"])]), "expected attribute 'axis'"),
    "arity": (model([node("Add", ["x"], ["y"])]), "Wrong input number"),
    "cast": (model([node("Cast", ["x"], ["y"], to=9999)]), "9999"),
    "stride_0": (
        model([node("Conv", ["x", "w"], ["y"], strides=[0])], [weight("w", np.ones((1, 1, 3)))], ["rows", 1, 4]),
        "divide by zero",
    ),
    "block_0": (model([node("DepthToSpace", ["x"], ["y"], blocksize=0)], x=["rows", 4, 4, 4]), "divide by zero"),
    "permuted": (model([node("Transpose", ["x"], ["y"], perm=[5, 9])]), "index out of bounds"),
    "gather": (
        model(
            [node("Gather", ["w", "at"], ["v"]), node("Add", ["x", "v"], ["y"])],
            [weight("w", [1] * 4), weight("at", [99], np.int64)],
        ),
        "index out of bounds",
    ),
    "flatten": (model([node("Flatten", ["x"], ["y"], axis=-77)]), "out of range"),
    "negative_pad": (
        model([node("Pad", ["x", "by"], ["y"])], [weight("by", [0, -9, 0, -9], np.int64)]), "a negative length",
    ),
}  # fmt: skip

# What only looks dangerous, and loads.
HARMLESS = {
    "identities": chain("Identity", DEEP),
    "adds": chain("Add", DEEP, "w", weights=[weight("w", [0] * 4)]),
    "ifs_20": nested_ifs(20),
    "input_of_2_40": model([node("Relu", ["x"], ["y"])], x=["rows", 2**40], y=["rows", 2**40]),
    "weights_as_inputs": graph(
        [node("Relu", ["x"], ["y"])],
        [value("x", ["rows"]), *(value(f"w{at}", [1]) for at in range(10_000))],
        [value("y", ["rows"])],
        [weight(f"w{at}", [0]) for at in range(10_000)],
    ),
    "divides_by_0": graph(
        [node("Div", ["x", "w"], ["y"])],
        [value("x", ["rows"], INT64)],
        [value("y", ["rows"], INT64)],
        [weight("w", [0], np.int64)],
    ),
}  # fmt: skip


def repository(folder, files):
    folder.mkdir()
    for name, data in files.items():
        (folder / f"{name}.onnx").write_bytes(data)
    (folder / "good.onnx").write_bytes(GOOD)
    return folder


@pytest.fixture(scope="module")
def besieged(tmp_path_factory):
    """A server whose folder holds one good model among all that is bad."""
    folder = tmp_path_factory.mktemp("hostile")
    files = {name: data for name, (data, _) in REFUSED.items()} | HARMLESS
    running = Server(folder, models=repository(folder / "models", files), ONNXD_REPOSITORY__REQUIRE_ALL="false")
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture(scope="module")
def states(besieged):
    return {model["name"]: model for model in besieged.get("/health").json()["models"]}


def assert_good_model_answers(server):
    x = np.ones((2, 4), np.float32)
    found = v2.infer(server, requests, "good", {"x": x})
    v2.assert_same(found["y"], x * np.float32([1, 2, 3, 4]))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_broken_is_refused_with_its_reason(states, name):
    assert states[name]["state"] == "failed"
    assert REFUSED[name][1] in states[name]["reason"]


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_dangerous_loads(states, name):
    assert states[name]["state"] == "ready", states[name]


def test_a_division_by_zero_fails_the_request_alone(besieged):
    answer = v2.post(besieged, requests, "divides_by_0", {"x": np.array([1])})
    assert answer.status_code == 500
    assert "error" in answer.json()


def test_an_input_that_cannot_be_sent_is_refused_by_its_shape(besieged):
    answer = v2.post(besieged, requests, "input_of_2_40", {"x": np.ones((1, 4), np.float32)})
    assert answer.status_code == 400
    assert answer.json()["error"] == "input 'x': expected shape [-1,1099511627776], got [1,4]"


def test_inspect_tells_of_a_model_whose_inputs_cannot_be_made_up(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(HARMLESS["input_of_2_40"])
    told = subprocess.run([BINARY, "inspect", path], capture_output=True, text=True, timeout=30)
    assert "too large to be made up" in told.stdout
    assert told.returncode == 0


def test_the_good_model_answers_and_memory_stays_small(besieged, states):
    assert_good_model_answers(besieged)
    status = dict(line.split(":", 1) for line in open(f"/proc/{besieged.process.pid}/status"))
    assert int(status["VmHWM"].split()[0]) * 1024 < MOST_BYTES


ENDLESS = {
    "rank_1000": with_tensor(declared([1] * 1000, bytes(4))),
    "rank_1000000": with_tensor(declared([1] * 1_000_000, bytes(4))),
    "wide": graph([node("Relu", ["x0"], ["y"])], [value(f"x{at}", ["n"]) for at in range(50_000)], [value("y", ["n"])]),
    "padded": model(
        [node("Conv", ["x", "w"], ["y"], pads=[2**40, 2**40])], [weight("w", np.ones((1, 1, 3)))], ["rows", 1, 4]
    ),
}


def test_a_load_that_does_not_end_is_given_up(tmp_path):
    folder = repository(tmp_path / "models", ENDLESS)
    settings = {"ONNXD_REPOSITORY__REQUIRE_ALL": "false", "ONNXD_INFERENCE__LOAD_TIMEOUT_MS": "1000"}
    running = Server(tmp_path, models=folder, **settings)
    try:
        states = {model["name"]: model for model in running.get("/health").json()["models"]}
        assert {name: states[name]["state"] for name in ENDLESS} == dict.fromkeys(ENDLESS, "failed")
        assert_good_model_answers(running)
    finally:
        running.kill()


# What a small file can make the loader allocate: in an address space that protects the machine.


def computed(*nodes, weights=()):
    """A model that needs the largest element of `z`, which depends on no input."""
    return model([*nodes, node("ReduceMax", ["z"], ["r"], keepdims=0), node("Add", ["x", "r"], ["y"])], weights)


def shape(*dims):
    return weight("s", dims, np.int64)


MANY = 2**27
HOGS = {
    "constant": computed(node("ConstantOfShape", ["s"], ["z"]), weights=[shape(MANY)]),
    "expand": computed(node("Expand", ["one", "s"], ["z"]), weights=[shape(MANY), weight("one", [1])]),
    "tile": computed(node("Tile", ["one", "s"], ["z"]), weights=[shape(MANY), weight("one", [1])]),
    "range": model(
        [
            node("Range", ["zero", "s", "one"], ["z"]),
            node("ReduceMax", ["z"], ["r"], keepdims=0),
            node("Cast", ["r"], ["f"], to=FLOAT),
            node("Add", ["x", "f"], ["y"]),
        ],
        [weight("zero", 0, np.int64), weight("one", 1, np.int64), weight("s", MANY, np.int64)],
    ),
    "doubled": computed(
        *(node("Concat", [f"c{at}" if at else "one"] * 2, [f"c{at + 1}"], axis=0) for at in range(60)),
        node("Identity", ["c60"], ["z"]),
        weights=[weight("one", [1])],
    ),
    "outer": computed(
        node("Add", ["a", "b"], ["z"]),
        weights=[weight("a", np.ones((20_000, 1))), weight("b", np.ones((1, 20_000)))],
    ),
    "pad": model([node("Pad", ["x", "s"], ["y"])], [shape(0, 0, 2**33, 0)]),
    "resize": model([node("Resize", ["x", "", "", "s"], ["y"])], [shape(1, 1, 2**16, 2**17)], ["rows", 1, 2, 2]),
    "pool": model(
        [node("AveragePool", ["x"], ["y"], kernel_shape=[MANY], pads=[MANY - 1] * 2)], x=["rows", 1, 4]
    ),
    "transposed": model([node("Transpose", ["x"], ["y"], perm=[0, 0])]),
}  # fmt: skip


# What no memory suffices for, so that it ends its trial on every machine.
HOPELESS = ["pad", "pool", "resize"]


def test_what_no_memory_suffices_for_ends_its_trial_and_not_the_server(tmp_path):
    folder = repository(tmp_path / "models", {name: HOGS[name] for name in HOPELESS})
    # ONNX Runtime needs no more for the pool than for what is in it.
    settings = {"ONNXD_REPOSITORY__REQUIRE_ALL": "false"} | onnxruntime(False)
    running = Server(tmp_path, models=folder, **settings)
    try:
        states = {model["name"]: model for model in running.get("/health").json()["models"]}
        assert {name: states[name]["state"] for name in HOPELESS} == dict.fromkeys(HOPELESS, "failed")
        assert any("ended a process of its own" in states[name]["reason"] for name in HOPELESS)
        assert_good_model_answers(running)
    finally:
        running.kill()


@pytest.mark.parametrize("name", HOGS)
def test_a_trial_keeps_to_the_memory_that_it_is_given(tmp_path, name):
    path = tmp_path / "model.onnx"
    path.write_bytes(HOGS[name])
    with Trial("tract") as trial:
        # The server ends what does not end by itself, long before its memory is large.
        timer = threading.Timer(5, trial.kill)
        timer.start()
        report = trial.examine(path, 256 << 20)
        timer.cancel()
        assert trial.end() < 1 << 30
    # What doubles itself loads; each request to it is refused the memory.
    found = [finding["standing"] for finding in report["verdict"]["findings"]] if report else ["lost"]
    assert found == ["alone"] if name == "doubled" else found in (["refuses"], ["lost"]), report
