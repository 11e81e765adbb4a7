"""Each kind of store: what is in it is served, and what changes in it changes what is served."""

import pytest
from polling import wait_until
from repository import IRIS, health, infer, serves
from stores import STORES

EVERY = pytest.mark.parametrize("store", STORES, indirect=True)


@EVERY
def test_the_store_is_followed(store, repository, serve):
    repository.put(1)
    server = serve()
    assert serves(server, 1)
    assert health(server) | {"seconds_since_success": 0} == {
        "url": store.url,
        "reachable": True,
        "seconds_since_success": 0,
    }
    repository.put(2)
    wait_until(lambda: serves(server, 2), 30, "the new version serves")
    repository.delete(2)
    wait_until(lambda: serves(server, 1), 30, "the older version serves again")
    store.put("flower/model.onnx", IRIS[2])
    wait_until(lambda: infer(server, "flower").ok, 30, "the new model serves")
    store.put("iris/model.toml", b'versions = "all"')
    repository.put(2)
    wait_until(lambda: server.get("/v2/models/iris").json()["versions"] == ["1", "2"], 30, "the settings count")
    assert server.stop() == 0


@EVERY
def test_a_file_that_changes_is_loaded_anew(store, repository, serve):
    repository.put(1, IRIS[1])
    server = serve()
    before = infer(server).json()["outputs"]
    repository.put(1, IRIS[2])
    wait_until(lambda: infer(server).json()["outputs"] != before, 30, "the changed file serves")


@EVERY
def test_bytes_that_are_not_the_stores_are_never_loaded(store, repository, serve):
    repository.put(1)
    server = serve()
    objects = lambda method, path: method == "GET" and path.partition("?")[0].endswith("model.onnx")
    for fault in ["half", "cut"] + ["garbage"] * (not store.url.startswith("http")):
        store.proxy.break_with(fault, objects)
        repository.put(2)
        wait_until(lambda: "iris/2" in health(server).get("incomplete", {}), 60, f"{fault} is noticed")
        assert serves(server, 1)
        assert server.get("/health/ready").ok
        store.proxy.mend()
        wait_until(lambda: serves(server, 2), 60, f"the version serves after {fault}")
        repository.delete(2)
        wait_until(lambda: serves(server, 1), 60, "the older version serves again")
