"""Every engine keeps to the threads that it is given."""

from pathlib import Path

import numpy as np
import pytest
import requests
import v2
from engines import ALONE, WAYS
from onnx import TensorProto, helper, numpy_helper
from server import Server

WIDTH, LAYERS, ROWS, REQUESTS = 768, 6, 256, 12


def network():
    """Much to compute for little to send."""
    random = np.random.default_rng(0)
    shapes = [(1, WIDTH), *[(WIDTH, WIDTH)] * LAYERS, (WIDTH, 1)]
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32) / WIDTH, f"w{at}")
        for at, shape in enumerate(shapes)
    ]
    names = ["x", *[f"h{at}" for at in range(1, len(shapes))], "y"]
    nodes = [helper.make_node("MatMul", [names[at], f"w{at}"], [names[at + 1]]) for at in range(len(shapes))]
    column = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1]) for name in "xy"}
    graph = helper.make_graph(nodes, "graph", [column["x"]], [column["y"]], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def cpu_ticks(process):
    """What each thread has used so far, by its number."""
    used = {}
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        used[task.name] = int(fields[11]) + int(fields[12])
    return used


@pytest.mark.parametrize("engine", ALONE)
def test_one_thread_is_one_thread(tmp_path, engine):
    (tmp_path / "wide.onnx").write_bytes(network().SerializeToString())
    settings = {"ONNXD_INFERENCE__THREADS": "1", "ONNXD_SERVER__DRAIN_DELAY_MS": "0", **WAYS[engine]}
    server = Server(tmp_path, models=tmp_path / "wide.onnx", **settings)
    try:
        with requests.Session() as session:
            x = np.ones((ROWS, 1), np.float32)
            v2.infer(server, session, "wide", {"x": x})
            before = cpu_ticks(server.process)
            for _ in range(REQUESTS):
                v2.infer(server, session, "wide", {"x": x})
            after = cpu_ticks(server.process)
    finally:
        server.kill()
    used = sorted(ticks - before.get(thread, 0) for thread, ticks in after.items())
    # What is not the one thread's is the requests' way in and out.
    assert used[-1] > 0.8 * sum(used), used
