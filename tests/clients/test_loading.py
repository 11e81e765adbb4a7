"""The ways in which a model is made to run, whichever it needs, against ONNX Runtime."""

import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import agreement
import numpy as np
import onnxruntime
import pytest
import requests
import v2
from onnx import TensorProto, helper, numpy_helper
from polling import wait_until
from server import BINARY, Server

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
MOST_PLANS = 64
# The ways of running a model that are tried here, and the plans, are this engine's.
ON_TRACT = {"ONNXD_INFERENCE__ENGINE": "tract"}
ANY = "one plan for every shape"
EACH_SHAPE = "a plan for each shape"
node = helper.make_node


def value(name, dims, element=FLOAT):
    return helper.make_tensor_value_info(name, element, dims)


def weight(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.array(values, dtype), name)


def model(nodes, inputs, outputs, weights=(), opset=17, value_info=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights, value_info=value_info)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def floats(*shape):
    """The same numbers for the same shape, none of them 0."""
    values = np.arange(1, np.prod(shape, dtype=int) + 1, dtype=np.float32).reshape(shape)
    return np.sin(values) + 1.5


def integers(*values):
    return np.array(values, np.int64)


def frozen(*names):
    quoted = ", ".join(f"'{name}'" for name in names)
    return f"{EACH_SHAPE} and each value of {quoted}"


BATCHES = [1, 3, 8]


def any_shape():
    """Models that one plan serves."""
    stale = [value("h", [8, 99]), value("z", [1, 1, 7])]
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["z"]), node("Softmax", ["z"], ["y"], axis=-1)]
    weights = [weight("w", floats(4, 3))]
    rows = [{"x": floats(n, 4)} for n in BATCHES]
    yield "stale", model(nodes, [value("x", ["n", 4])], [value("y", ["m", 77])], weights, value_info=stale), rows
    yield "unnamed", model(nodes, [value("x", [None, 4])], [value("y", [None, 3])], weights), rows
    unset = model(nodes, [value("x", [-1, 4])], [value("y", [-1, 3])], weights)
    yield "minus_one", unset, rows
    images = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["c"], ["p"]),
        node("Flatten", ["p"], ["y"]),
    ]
    sizes = [{"x": floats(n, 1, 5 + n, 7)} for n in BATCHES]
    inputs = [value("x", [None, 1, None, None])]
    yield "images", model(images, inputs, [value("y", [None, 2])], [weight("w", floats(2, 1, 3, 3))]), sizes
    shared = [node("Mul", ["a", "b"], ["c"]), node("MatMul", ["c", "d"], ["y"])]
    dims = [value("a", ["n", "s", 2]), value("b", ["n", "s", 2]), value("d", ["n", 2, "s"])]
    shapes = [{"a": floats(n, s, 2), "b": floats(n, s, 2), "d": floats(n, 2, s)} for n in BATCHES for s in (1, 5)]
    yield "shared", model(shared, dims, [value("y", ["n", "s", "s"])]), shapes
    flat = [node("Reshape", ["x", "to"], ["y"])]
    blocks = [{"x": floats(n, 2, 3)} for n in BATCHES]
    kept = model(flat, [value("x", ["n", 2, 3])], [value("y", ["n", 6])], [weight("to", [0, -1], np.int64)])
    yield "reshape_kept", kept, blocks
    sized = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "first"], ["f"]),
        node("Concat", ["f", "rest"], ["to"], axis=0),
        *flat,
    ]
    weights = [weight("first", [0], np.int64), weight("rest", [3, 2], np.int64)]
    yield "reshape_sized", model(sized, [value("x", ["n", 6])], [value("y", ["n", 3, 2])], weights), [
        {"x": floats(n, 6)} for n in BATCHES
    ]
    limits = [value("x", ["n", 4]), value("low", []), value("high", [])]
    clipped = [
        {"x": floats(n, 4), "low": np.array(low, np.float32), "high": np.array(2, np.float32)}
        for n in BATCHES
        for low in (1.0, 1.25)
    ]
    yield "clip", model([node("Clip", ["x", "low", "high"], ["y"])], limits, [value("y", ["n", 4])]), clipped


def by_values():
    """Models whose shapes depend on values, or that need constants where they have inputs; the inputs that freeze."""
    x, y = value("x", ["n", 6]), value("y", None)
    reshape = model([node("Reshape", ["x", "to"], ["y"])], [x, value("to", [2], INT64)], [y])
    yield "reshape", reshape, [
        {"x": floats(n, 6), "to": integers(*to)} for n in BATCHES for to in ((n, 6), (n * 2, 3), (-1, 2), (0, 6))
    ], ["to"]
    expand = model([node("Expand", ["x", "to"], ["y"])], [value("x", ["n", 1]), value("to", [2], INT64)], [y])
    yield "expand", expand, [{"x": floats(n, 1), "to": integers(n, k)} for n in BATCHES for k in (1, 4)], ["to"]
    ends = [value("start", [1], INT64), value("end", [1], INT64)]
    slices = [weight("axes", [1], np.int64)]
    cut = model([node("Slice", ["x", "start", "end", "axes"], ["y"])], [x, *ends], [y], slices)
    yield "slice", cut, [
        {"x": floats(n, 6), "start": integers(start), "end": integers(end)}
        for n in BATCHES
        for start, end in ((0, 2), (1, 6), (-3, -1))
    ], None
    tile = model([node("Tile", ["x", "times"], ["y"])], [x, value("times", [2], INT64)], [y])
    yield "tile", tile, [{"x": floats(n, 6), "times": integers(k, 2)} for n in BATCHES for k in (1, 3)], ["times"]
    most = [node("TopK", ["x", "k"], ["y", "at"])]
    top = model(most, [x, value("k", [1], INT64)], [y, value("at", None, INT64)])
    yield "top_k", top, [{"x": floats(n, 6), "k": integers(k)} for n in BATCHES for k in (1, 5)], None
    count = [node("Range", ["zero", "end", "one"], ["r"]), node("Cast", ["r"], ["f"], to=FLOAT)]
    count += [node("ReduceSum", ["x"], ["s"], keepdims=0), node("Mul", ["f", "s"], ["y"])]
    ones = [weight("zero", 0, np.int64), weight("one", 1, np.int64)]
    ranged = model(count, [x, value("end", [], INT64)], [y], ones)
    yield "range", ranged, [{"x": floats(n, 6), "end": np.array(end)} for n in BATCHES for end in (1, 4)], None
    padded = [node("Pad", ["x", "pads", "with"], ["y"])]
    pad = model(padded, [x, value("pads", [4], INT64), value("with", [])], [y])
    yield "pad", pad, [
        {"x": floats(n, 6), "pads": integers(0, 1, 2, k), "with": np.array(k / 2, np.float32)}
        for n in BATCHES
        for k in (1, 4)
    ], ["pads", "with"]
    resize = model(
        [node("Resize", ["x", "", "scales"], ["y"], mode="nearest")],
        [value("x", ["n", 1, 2, 3]), value("scales", [4])],
        [y],
    )
    yield "resize", resize, [
        {"x": floats(n, 1, 2, 3), "scales": np.array([1, 1, 2, k], np.float32)} for n in BATCHES for k in (1, 3)
    ], ["scales"]
    parameters = ["scale", "bias", "mean", "variance"]
    normal = model(
        [node("BatchNormalization", ["x", *parameters], ["y"])],
        [value("x", ["n", 3, 2]), *(value(name, [3]) for name in parameters)],
        [value("y", ["n", 3, 2])],
    )
    yield "batch_norm", normal, [
        {"x": floats(n, 3, 2), **{name: floats(3) * k for name in parameters}} for n in BATCHES for k in (1, 2)
    ], parameters
    summed = model(
        [node("ReduceSum", ["x", "axes"], ["y"])], [value("x", ["n", 3, 2]), value("axes", ["k"], INT64)], [y]
    )
    yield "axes", summed, [
        {"x": floats(n, 3, 2), "axes": integers(*axes)} for n in BATCHES for axes in ((0,), (1, 2), (-1,))
    ], ["axes"]


FREEZES = {name: inputs for name, _, _, inputs in by_values()}
MODELS = {name: (made, requests) for name, made, requests, *_ in [*any_shape(), *by_values()]}


def expected(made, inputs):
    """ONNX Runtime's answers to several requests, by the outputs' names."""
    runtime = onnxruntime.InferenceSession(made.SerializeToString(), agreement.QUIET)
    names = [output.name for output in made.graph.output]
    return [dict(zip(names, runtime.run(None, request), strict=True)) for request in inputs]


WANTED = {name: expected(*made) for name, made in MODELS.items()}


@pytest.fixture(scope="module")
def loading(tmp_path_factory):
    models = {name: made for name, (made, _) in MODELS.items()}
    with agreement.serving(tmp_path_factory, models, **ON_TRACT) as running:
        yield running


def check(server, session, name, at):
    found = v2.infer(server, session, name, MODELS[name][1][at])
    assert found.keys() == WANTED[name][at].keys()
    for output, wanted in WANTED[name][at].items():
        v2.assert_same(found[output], wanted)


def inspect(folder, made, *arguments):
    """What `onnxd inspect` prints of a model."""
    path = folder / "model.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    command = [BINARY, "inspect", *arguments, path]
    return subprocess.run(command, env=ON_TRACT, capture_output=True, text=True, timeout=30)


def inspected(folder, made):
    return json.loads(inspect(folder, made, "--json").stdout)["engines"][0]


@pytest.mark.parametrize("name", MODELS)
def test_every_shape_and_value_answers_like_onnx_runtime(loading, session, name):
    for _ in range(3):  # the first makes the plans, the others find them
        for at in range(len(WANTED[name])):
            check(loading, session, name, at)


def test_requests_of_different_shapes_at_the_same_time(loading):
    cases = [(name, at) for at in range(6) for name in MODELS if at < len(WANTED[name])]
    local = threading.local()

    def ask(case):
        if not hasattr(local, "session"):
            local.session = requests.Session()
        check(loading, local.session, *case)

    with ThreadPoolExecutor(8) as threads:
        assert all(result is None for result in threads.map(ask, cases * 3))


def plans(server):
    metrics = server.metrics()
    names = ("hits_total", "misses_total", "plans", "bytes")
    return {name: metrics[f"onnxd_plan_cache_{name}"] for name in names}


def test_more_shapes_than_the_cache_holds(loading, session):
    made, _ = MODELS["tile"]
    asked = [{"x": floats(n, 6), "times": integers(1, 2)} for n in range(10, 10 + MOST_PLANS + 20)]
    wanted = expected(made, asked)
    before = plans(loading)
    for request, answer in zip(asked, wanted, strict=True):
        v2.assert_same(v2.infer(loading, session, "tile", request)["y"], answer["y"])
    full = plans(loading)
    assert full["misses_total"] - before["misses_total"] == len(asked)
    assert full["plans"] == MOST_PLANS
    v2.infer(loading, session, "tile", asked[-1])
    again = plans(loading)
    assert (again["hits_total"] > full["hits_total"], again["misses_total"]) == (True, full["misses_total"])
    # The first was given up for the last, and is made anew.
    v2.assert_same(v2.infer(loading, session, "tile", asked[0])["y"], wanted[0]["y"])
    assert plans(loading)["misses_total"] == full["misses_total"] + 1
    assert plans(loading)["plans"] == MOST_PLANS


def test_the_cache_counts_the_bytes_of_its_plans(tmp_path_factory, session):
    """Each plan counts as the model's weights and, kept twice, the values it was made for."""
    parameters = [node("Reshape", ["x", "to"], ["r"]), node("MatMul", ["r", "w"], ["y"])]
    inputs = [value("x", ["n", 4]), value("to", [2], INT64)]
    made = model(parameters, inputs, [value("y", None)], [weight("w", floats(4, 256))])
    with agreement.serving(tmp_path_factory, {"weighty": made}, **ON_TRACT) as running:
        for count in (3, 5, 7):
            v2.infer(running, session, "weighty", {"x": floats(count, 4), "to": integers(count, 4)})
        kept = plans(running)
    assert kept["bytes"] == kept["plans"] * (4 * 256 * 4 + 2 * 16)


@pytest.mark.parametrize("name", MODELS)
def test_the_signature_is_the_files_own(loading, session, name):
    def shape(declared):
        if not declared.type.tensor_type.HasField("shape"):
            return [-1]
        dims = declared.type.tensor_type.shape.dim
        return [dim.dim_value if dim.HasField("dim_value") else -1 for dim in dims]

    described = session.get(loading.url(f"/v2/models/{name}")).json()
    graph = MODELS[name][0].graph
    for found, declared in [(described["inputs"], graph.input), (described["outputs"], graph.output)]:
        assert [(one["name"], one["shape"]) for one in found] == [(one.name, shape(one)) for one in declared]


@pytest.mark.parametrize("name", [name for name in MODELS if name not in FREEZES])
def test_inspect_tells_that_one_plan_serves(tmp_path, name):
    engine = inspected(tmp_path, MODELS[name][0])
    assert (engine["serves"], engine["runs_example"]) == (True, True)
    assert engine["tried"][0] == {"what": ANY, "does": True, "seen": "made"}


@pytest.mark.parametrize("name", [name for name, inputs in FREEZES.items() if inputs])
def test_inspect_tells_what_was_tried_on_the_way(tmp_path, name):
    made, _ = MODELS[name]
    engine = inspected(tmp_path, made)
    *refused, last = engine["tried"]
    assert (engine["serves"], last["what"], last["does"]) == (True, frozen(*FREEZES[name]), True)
    assert refused[0]["what"] in (ANY, EACH_SHAPE)
    text = inspect(tmp_path, made).stdout
    for tried in refused:
        assert f"{tried['what']}: no: {tried['reason']}" in text
    assert f"{last['what']}: {last['seen']}" in text


def test_inspect_names_the_operator_and_the_node_of_a_refusal(tmp_path):
    nodes = [node("Relu", ["x"], ["h"]), node("Conv", ["h", "w"], ["y"], name="body/conv_1")]
    weights = [weight("w", floats(2, 5, 3, 3))]  # for 5 channels, and there are 3
    made = model(nodes, [value("x", ["n", 3, 8, 8])], [value("y", None)], weights)
    for arguments in [(), ("--json",)]:
        ran = inspect(tmp_path, made, *arguments)
        assert ran.returncode != 0
        assert "(node 'body/conv_1')" in ran.stderr
        assert ran.stderr.rstrip().endswith("docs/models.md says what loads and what to do about the rest")
    engine = json.loads(ran.stdout)["engines"][0]
    assert engine["serves"] is False
    for tried in engine["tried"]:
        assert tried["reason"].startswith("operator Conv") and "(node 'body/conv_1'): " in tried["reason"]


def test_an_unknown_operator_is_named_before_anything_is_tried(tmp_path):
    made = model([node("Mystery", ["x"], ["y"], name="m")], [value("x", ["n"])], [value("y", ["n"])])
    ran = inspect(tmp_path, made)
    assert "operator Mystery (node 'm') is not supported" in ran.stderr
    assert "tried" not in ran.stdout


# Which requests may be joined into one run.


def rowwise():
    n, m, k = "n", "m", "k"
    product = model([node("MatMul", ["a", "b"], ["y"])], [value("a", [n, k]), value("b", [k, m])], [value("y", [n, m])])
    yield "product", product, {"a": floats(3, 2), "b": floats(2, 3)}, False
    free = [None, None]
    unnamed = model([node("MatMul", ["a", "b"], ["y"])], [value("a", free), value("b", free)], [value("y", free)])
    yield "unnamed_product", unnamed, {"a": floats(3, 3), "b": floats(3, 3)}, False
    for name, axis, joins in [("over_rows", 0, False), ("over_columns", 1, True)]:
        softmax = model([node("Softmax", ["x"], ["y"], axis=axis)], [value("x", [n, 4])], [value("y", [n, 4])])
        yield name, softmax, {"x": floats(3, 4)}, joins
    mean = [node("ReduceMean", ["x"], ["m"], axes=[0]), node("Sub", ["x", "m"], ["y"])]
    mean = model(mean, [value("x", [n, 4])], [value("y", [n, 4])])
    yield "centred", mean, {"x": floats(3, 4)}, False
    fixed = model([node("Relu", ["x"], ["y"])], [value("x", [3, 4])], [value("y", [3, 4])])
    yield "fixed", fixed, {"x": floats(3, 4)}, False
    outer = model([node("Relu", ["x"], ["y"])], [value("x", [None, 4])], [value("y", [None, 4])])
    yield "row_by_row", outer, {"x": floats(3, 4)}, True


JOINING = {name: (made, request, joins) for name, made, request, joins in rowwise()}


@pytest.fixture(scope="module")
def joining(tmp_path_factory):
    with agreement.serving(tmp_path_factory, {name: made for name, (made, *_) in JOINING.items()}) as running:
        yield running


@pytest.mark.parametrize("name", JOINING)
def test_only_what_is_proven_row_by_row_counts_rows(joining, session, tmp_path, name):
    made, request, joins = JOINING[name]
    assert inspected(tmp_path, made)["requests_join"] == joins
    counted = f'onnxd_inference_rows_total{{model="{name}",version="1"}}'
    before = joining.metrics()[counted]
    [wanted] = expected(made, [request])
    v2.assert_same(v2.infer(joining, session, name, request)["y"], wanted["y"])
    assert joining.metrics()[counted] - before == (3 if joins else 1)


@pytest.mark.parametrize("name", JOINING)
def test_many_at_once_answer_like_onnx_runtime(joining, name):
    """Whatever was joined, each answer is the request's own."""
    made, request, _ = JOINING[name]
    asked = [{key: values + np.float32(number) for key, values in request.items()} for number in range(24)]
    wanted = expected(made, asked)

    def ask(one):
        return v2.infer(joining, requests, name, one)["y"]

    with ThreadPoolExecutor(8) as threads:
        for found, answer in zip(threads.map(ask, asked), wanted, strict=True):
            v2.assert_same(found, answer["y"])


# The time that loading may take.


def test_a_load_that_takes_too_long_is_given_up(tmp_path):
    """4,000 layers, which take far longer than the time that is allowed."""
    layers = [node("MatMul", [f"h{at}", "w"], [f"h{at + 1}"]) for at in range(4000)]
    slow = model(layers, [value("h0", ["n", 4])], [value("h4000", ["n", 4])], [weight("w", np.eye(4))])
    quick = model([node("Relu", ["x"], ["y"])], [value("x", ["n", 4])], [value("y", ["n", 4])])
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "slow.onnx").write_bytes(slow.SerializeToString())
    (folder / "quick.onnx").write_bytes(quick.SerializeToString())
    settings = {"ONNXD_REPOSITORY__REQUIRE_ALL": "false", "ONNXD_INFERENCE__LOAD_TIMEOUT_MS": "400"}
    running = Server(tmp_path, models=folder, **settings)
    try:
        health = wait_until(lambda: running.get("/health").json(), 10, "health answers")
        states = {entry["name"]: entry for entry in health["models"]}
        assert states["quick"]["state"] == "ready"
        assert states["slow"]["state"] == "failed"
        assert "inference.load_timeout_ms (400 ms)" in states["slow"]["reason"]
        metrics = running.metrics()
        assert metrics['onnxd_model_loads_abandoned_total{model="slow",version="1"}'] == 1
        assert metrics['onnxd_model_state{model="slow",state="failed",version="1"}'] == 1
        found = v2.infer(running, requests, "quick", {"x": floats(2, 4)})
        v2.assert_same(found["y"], floats(2, 4))
    finally:
        running.kill()
