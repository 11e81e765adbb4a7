"""A server in a container of 512 MiB: what does not fit is refused with the reason, and nobody is killed."""

import numpy as np
import pytest
import requests
import v2
from engines import health
from flood import DOCUMENTED, Flood
from polling import wait_until
from server import Server
from weights import heavy

WIDTH = 1024
# While it is loaded it takes about three times as much: it fits once, and not beside itself.
LOADS_ONCE_MIB = 100
NEVER_LOADS_MIB = 288
KILLED_NOBODY = 0


@pytest.fixture
def start(tmp_path, group):
    servers = []
    (tmp_path / "models").mkdir()

    def start(models, **settings):
        for name, contents in models.items():
            (tmp_path / "models" / f"{name}.onnx").write_bytes(contents)
        usual = {"ONNXD_REPOSITORY__REQUIRE_ALL": "false", "ONNXD_SERVER__DRAIN_DELAY_MS": "0"}
        server = Server(tmp_path, models=tmp_path / "models", ready_within=120, before=group.enter, **usual | settings)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def session():
    with requests.Session() as session:
        yield session


def ask(server, session, name):
    return v2.post(server, session, name, {"x": np.ones((1, WIDTH), np.float32)}).status_code


def metric(server, name):
    return server.metrics()[name]


def check_told(reason):
    for part in ["MiB of memory", "are free", "models hold", "are kept for requests", "raise the memory limit"]:
        assert part in reason, reason


def test_a_model_that_does_not_fit_is_refused_and_the_others_serve(start, session, group):
    server = start({"small": heavy(4), "large": heavy(NEVER_LOADS_MIB), "other": heavy(8)})
    large = wait_until(lambda: states(server).get("large") == "failed" and health(server)["large"], 120, "it is refused")
    check_told(str(large))
    assert ask(server, session, "small") == ask(server, session, "other") == 200
    refused = v2.post(server, session, "large", {"x": np.ones((1, WIDTH), np.float32)})
    assert refused.status_code == 503
    check_told(refused.text)
    index = {model["name"]: model for model in session.post(server.url("/v2/repository/index"), json={}).json()}
    check_told(index["large"]["reason"])
    assert "raise the memory limit" in server.log.read_text()
    # It is tried again whenever memory was freed, as when another engine is swapped in.
    assert metric(server, 'onnxd_model_loads_out_of_memory_total{model="large",version="1"}') >= 1
    assert metric(server, 'onnxd_model_state{model="large",state="failed",version="1"}') == 1
    assert group.kills() == KILLED_NOBODY


def states(server):
    return {name: model["state"] for name, model in health(server).items()}


def test_a_reload_that_does_not_fit_beside_the_old_one_leaves_that_serving(start, session, group):
    server = start({"once": heavy(LOADS_ONCE_MIB)}, ONNXD_REPOSITORY__MODE="explicit")
    assert ask(server, session, "once") == 200

    def order(what):
        return session.post(server.url(f"/v2/repository/models/once/{what}"))

    refused = order("load")
    assert refused.status_code == 503, refused.text
    check_told(refused.text)
    assert ask(server, session, "once") == 200
    assert "once" in str(health(server)) and "raise the memory limit" in str(health(server)["once"])
    assert order("unload").ok
    loaded = order("load")
    assert loaded.ok, loaded.text
    assert ask(server, session, "once") == 200
    assert group.kills() == KILLED_NOBODY


def test_models_that_are_loaded_side_by_side_are_promised_their_memory_first(start, session, group):
    server = start({f"model{number}": heavy(40) for number in range(8)})
    served = [name for name, state in states(server).items() if state == "ready"]
    assert 1 < len(served) < 8, states(server)
    assert all(ask(server, session, name) == 200 for name in served)
    assert group.kills() == KILLED_NOBODY


@pytest.fixture
def flooded(start):
    # So that neither the rows nor the time are what bounds it.
    settings = {"ONNXD_INFERENCE__QUEUE_ROWS": "1000000", "ONNXD_SERVER__REQUEST_TIMEOUT_MS": "120000"}
    return start({"slow": heavy(4)}, **settings)


def check_unharmed(server, session, group):
    """It serves as before, and holds nothing any more for requests that are gone."""
    assert server.process.poll() is None and server.get("/health/ready").ok
    wait_until(lambda: metric(server, "onnxd_bodies_in_flight_bytes") == 0, 10, "nothing is held")
    assert ask(server, session, "slow") == 200
    assert group.kills() == KILLED_NOBODY


@pytest.mark.parametrize("client", ["reads_at_once", "reads_text", "reads_nothing"])
def test_a_flood_of_large_requests_is_answered_by_what_is_documented(flooded, session, group, client):
    flood = Flood(flooded, "slow", WIDTH)
    seen = flood.run(getattr(flood, client))
    assert set(seen) <= DOCUMENTED and seen[200] > 0 and seen[429] > 0, seen
    check_unharmed(flooded, session, group)


def test_a_flood_over_grpc_is_answered_alike(flooded, session, group, tmp_path):
    flood = Flood(flooded, "slow", WIDTH)
    seen = flood.run(flood.speaks_grpc(tmp_path))
    ok, resource_exhausted = 0, 8
    assert set(seen) <= {ok, resource_exhausted, "closed"} and seen[ok] > 0 and seen[resource_exhausted] > 0, seen
    check_unharmed(flooded, session, group)
