"""A server that is told to load a model anew again and again holds no more memory, threads or metrics for it."""

import os

import numpy as np
import pytest
import requests
import v2
from engines import ALONE, WAYS
from polling import wait_until
from server import Server
from weights import heavy

RELOADS, FIRST = 200, 20
# So small that a tenth of all that is held is less than 50 KiB for each reload.
WEIGHTS_MIB, WIDTH = 8, 512
LEAST_HELD = WEIGHTS_MIB << 20


@pytest.fixture
def server(tmp_path, engine):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "heavy.onnx").write_bytes(heavy(WEIGHTS_MIB, width=WIDTH))
    settings = {"ONNXD_REPOSITORY__MODE": "explicit", "ONNXD_SERVER__DRAIN_DELAY_MS": "0"}
    server = Server(tmp_path, models=tmp_path / "models", **WAYS[engine] | settings)
    yield server
    server.kill()


def resident(process):
    [line] = [line for line in open(f"/proc/{process.pid}/status") if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def threads(process):
    return len(os.listdir(f"/proc/{process.pid}/task"))


@pytest.mark.parametrize("engine", ALONE)
def test_reloads_leave_nothing_behind(server, capsys):
    process, x = server.process, {"x": np.ones((2, WIDTH), np.float32)}
    held = 'onnxd_model_memory_bytes{model="heavy",version="1"}'

    def is_alone():
        metrics = server.metrics()
        return metrics["onnxd_memory_models_bytes"] == metrics[held]

    def reload(session):
        answer = session.post(server.url("/v2/repository/models/heavy/load"))
        assert answer.ok, answer.text
        v2.infer(server, session, "heavy", x)
        wait_until(is_alone, 30, "the old one is gone")
        return resident(process), threads(process)

    with requests.Session() as session:
        readings = [reload(session) for _ in range(FIRST)]
        memory_before, threads_before = least(readings)
        series = len(server.metrics())
        assert LEAST_HELD / 2 < server.metrics()[held] < 4 * LEAST_HELD
        readings += [reload(session) for _ in range(RELOADS - FIRST)]
        memory_after, threads_after = least(readings)
        with capsys.disabled():
            print(f"\n{memory_before / 2**20:.0f} MiB after {FIRST} reloads, {memory_after / 2**20:.0f} after {RELOADS}")
        assert memory_after < 1.1 * memory_before, readings
        assert threads_after == threads_before, readings
        assert len(server.metrics()) == series
        assert session.post(server.url("/v2/repository/models/heavy/unload")).ok
        wait_until(lambda: resident(process) < memory_after - LEAST_HELD / 2, 10, "what was unloaded is given back")


def least(readings):
    """Of the last ten, the least memory and the fewest threads: the same model may keep plans for shapes, or not, as it
    is measured each time, and is measured against another way of running it for a while."""
    return tuple(min(column) for column in zip(*readings[-10:], strict=True))
