"""What goes wrong between the server and S3: nothing wrong or half is ever served, and what serves goes on."""

import time

import pytest
from polling import wait_until
from repository import IRIS, health, infer, serves


def of_objects(method, path):
    return method in ("GET", "HEAD") and "list-type=2" not in path


def of_listings(method, path):
    return "list-type=2" in path


@pytest.mark.parametrize("fault", ["half", "cut", "garbage", "500", "403", "404"])
def test_a_start_with_objects_that_do_not_come_waits_for_them(fault, store, repository, serve):
    repository.put(1)
    store.proxy.break_with(fault, of_objects)
    server = serve_unready(serve)
    wait_until(lambda: "iris" in server.get("/health/ready").json()["error"], 60, "the reason is told")
    assert not infer_ok(server)
    store.proxy.mend()
    wait_until(lambda: server.get("/health/ready").ok, 90, "onnxd is ready")
    assert serves(server, 1)


@pytest.mark.parametrize("fault", ["cut", "half", "500", "403", "404"])
def test_a_listing_that_fails_removes_nothing(fault, store, repository, serve):
    repository.put(1)
    repository.put(2)
    server = serve()
    store.proxy.break_with(fault, of_listings)
    wait_until(lambda: health(server)["reachable"] is False, 60, "the fault is noticed")
    for _ in range(10):
        assert serves(server, 2)
        assert server.get("/health/ready").ok
        time.sleep(0.2)
    assert server.metrics()["onnxd_repository_up"] == 0
    assert server.metrics()['onnxd_repository_syncs_total{outcome="failed"}'] >= 1
    store.proxy.mend()
    wait_until(lambda: health(server)["reachable"] is True, 90, "the store is back")
    assert server.log.read_text().count("the remote repository cannot be read") == 1


@pytest.mark.parametrize("fault", ["fewer", "empty"])
def test_one_listing_that_lacks_something_removes_nothing(fault, store, repository, serve):
    repository.put(1)
    repository.put(2)
    server = serve(ONNXD_REPOSITORY__POLL_MS="1000")
    fetched = server.metrics()["onnxd_repository_fetched_bytes_total"]
    hit = []

    def once(method, path):
        if of_listings(method, path) and not hit:
            hit.append(path)
            return True
        return False

    store.proxy.break_with(fault, once)
    wait_until(lambda: hit, 30, "a listing is short")
    listings = sum(of_listings(*request) for request in store.proxy.requests)
    wait_until(lambda: sum(of_listings(*r) for r in store.proxy.requests) > listings + 2, 30, "more looks")
    assert serves(server, 2)
    # Nothing was dropped and fetched anew meanwhile.
    assert server.metrics()["onnxd_repository_fetched_bytes_total"] == fetched


def test_a_slow_store_is_waited_for_and_holds_nobody_up(store, repository, serve):
    repository.put(1)
    server = serve()
    store.proxy.break_with("slow")
    repository.put(2)
    until = time.monotonic() + 90
    while not serves(server, 2):
        assert server.get("/health/ready").ok
        assert time.monotonic() < until
    store.proxy.mend()


def test_a_model_that_cannot_be_fetched_does_not_hold_others_back(store, repository, serve):
    repository.put(1)
    server = serve()
    store.proxy.break_with("garbage", lambda method, path: of_objects(method, path) and "/iris/2/" in path)
    repository.put(2)
    repository.put(1, name="other")
    wait_until(lambda: infer(server, "other").ok, 60, "the other model serves")
    assert serves(server, 1)
    assert list(health(server)["incomplete"]) == ["iris/2"]
    assert "MD5" in health(server)["incomplete"]["iris/2"]


def test_many_that_cannot_be_fetched_do_not_either(store, repository, serve):
    repository.put(1)
    server = serve()
    store.proxy.break_with("garbage", lambda method, path: of_objects(method, path) and "/bad-" in path)
    for number in range(12):
        repository.put(1, name=f"bad-{number:02}")
    repository.put(1, name="last")
    wait_until(lambda: infer(server, "last").ok, 90, "the one after the bad ones serves")
    assert len(health(server)["incomplete"]) == 12


def serve_unready(serve):
    """A server that need not be ready."""
    return serve(ready_within=None)


def infer_ok(server):
    return infer(server).ok
