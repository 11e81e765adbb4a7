"""What ONNX Runtime takes comes from the server's own allocator: bounded, given back, and weights once for all workers."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import requests
import v2
from engines import WAYS
from onnx import TensorProto, helper, numpy_helper
from polling import wait_until
from server import LIBRARY, Server
from trial import Trial

MIB = 1 << 20
WIDTH, FLOAT_BYTES = 4096, 4
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
ROWS = ["rows", 4]
node = helper.make_node


def model(nodes, inputs, outputs, weights=()):
    """Inputs and outputs are element types and shapes by name."""
    infos = [[helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()] for kinds in (inputs, outputs)]
    made = helper.make_graph(nodes, "graph", *infos, [numpy_helper.from_array(*pair) for pair in weights])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def asked():
    """Fills as many numbers as a request asks for, and adds them up."""
    nodes = [
        node("ConstantOfShape", ["n"], ["c"], value=numpy_helper.from_array(np.array([0.5], np.float32))),
        node("ReduceSum", ["c"], ["y"], keepdims=0),
    ]
    return model(nodes, {"n": (INT64, [1])}, {"y": (FLOAT, [])})


def expanded(elements):
    """Needs so many numbers for every request."""
    nodes = [
        # By the input, so that nothing of it is done while the model is loaded.
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Expand", ["m", "shape"], ["z"]),
        node("ReduceMax", ["z"], ["r"], keepdims=0),
        node("Add", ["x", "r"], ["y"]),
    ]
    return model(nodes, {"x": (FLOAT, ROWS)}, {"y": (FLOAT, ROWS)}, [(np.array([elements], np.int64), "shape")])


def heavy(width):
    weights = [(np.ones(shape, np.float32), name) for name, shape in {"u": (4, width), "v": (width, width), "w": (width, 1)}.items()]
    nodes = [node("MatMul", [before, name], [after]) for before, name, after in ["xua", "avb", "bwy"]]
    return model(nodes, {"x": (FLOAT, ROWS)}, {"y": (FLOAT, ["rows", 1])}, weights)


def resident(process):
    status = dict(line.split(":", 1) for line in open(f"/proc/{process.pid}/status"))
    return int(status["VmRSS"].split()[0]) * 1024


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(made, **settings):
        path = tmp_path / "model.onnx"
        path.write_bytes(made)
        settings = WAYS["onnxruntime"] | {"ONNXD_SERVER__DRAIN_DELAY_MS": "0"} | settings
        servers.append(Server(tmp_path, models=path, **settings))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.mark.parametrize("exponent", [44, 60, 61, 62])
def test_a_run_that_needs_more_than_there_is_costs_only_itself(serve, exponent):
    server = serve(asked())

    def ask(elements):
        with requests.Session() as session:
            return v2.post(server, session, "model", {"n": np.array([elements], np.int64)})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, [2**exponent, 1000] * 32))
    for refused, answered in zip(answers[::2], answers[1::2], strict=True):
        assert not refused.ok
        if exponent == 44:
            assert refused.status_code == 503, refused.text
        assert answered.json()["outputs"][0]["data"] == [500], answered.text
    assert server.stop() == 0


def test_what_a_model_needs_to_run_is_bounded_like_everything_else(tmp_path):
    # The kernel's bound on a trial is 320 MiB further off.
    made = {"larger": expanded(100 * MIB), "smaller": expanded(40 * MIB)}
    for name, contents in made.items():
        (tmp_path / name).write_bytes(contents)
    with Trial("onnxruntime", LIBRARY.resolve()) as trial:
        reports = {name: trial.examine(tmp_path / name, 256 * MIB) for name in made}
    assert reports["larger"]["is_out_of_memory"], reports
    assert not reports["smaller"]["is_out_of_memory"], reports


def test_what_was_loaded_is_given_back(tmp_path):
    (tmp_path / "heavy").write_bytes(heavy(2048))
    with Trial("onnxruntime", LIBRARY.resolve()) as trial:
        reports = [trial.examine(tmp_path / "heavy", 1024 * MIB) for _ in range(24)]
        assert all(not report["is_spent"] for report in reports), reports
        peaks = [report["peak_bytes"] for report in reports]
    assert max(peaks) < 1.5 * peaks[1], peaks


def test_weights_are_in_memory_once_whatever_the_workers(serve):
    def loaded(workers):
        server = serve(heavy(WIDTH), ONNXD_INFERENCE__THREADS=str(workers))
        with ThreadPoolExecutor(8) as pool, requests.Session() as session:
            x = {"x": np.ones((1, 4), np.float32)}
            list(pool.map(lambda _: v2.infer(server, session, "model", x), range(64)))
        return server

    most = resident(loaded(1).process) + WIDTH * WIDTH * FLOAT_BYTES // 2
    several = loaded(4)
    # While the ways to split the threads are measured there is a second session.
    wait_until(lambda: resident(several.process) < most, 60, "the weights are there once")
