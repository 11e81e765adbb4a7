"""The store is away: what is mirrored is served, also by a server that starts meanwhile."""

import os

import requests
from polling import wait_until
from repository import health, serves


def mirrored(tmp_path, name):
    [file] = (tmp_path / "cache").glob(f"*/models/{name}")
    return file


def test_what_is_served_goes_on(store, repository, serve):
    repository.put(1)
    server = serve()
    store.proxy.refuse()
    wait_until(lambda: health(server)["reachable"] is False, 60, "it is noticed")
    assert serves(server, 1)
    assert server.get("/health/ready").ok
    assert server.metrics()["onnxd_repository_up"] == 0
    repository.put(2)
    store.proxy.start()
    wait_until(lambda: serves(server, 2), 90, "the new version serves")
    assert server.metrics()["onnxd_repository_up"] == 1
    log = server.log.read_text()
    assert log.count("the remote repository cannot be read") == 1
    assert log.count("the remote repository answers") == 2


def test_a_start_goes_on_with_what_was_mirrored(store, repository, serve):
    repository.put(1)
    repository.put(2)
    for mode in ["watch", "static", "explicit"]:
        serve(ONNXD_REPOSITORY__MODE=mode).stop()
        store.proxy.refuse()
        server = serve(ONNXD_REPOSITORY__MODE=mode)
        assert serves(server, 2)
        assert health(server)["reachable"] is False
        store.proxy.start()
        server.stop()


def test_a_start_without_anything_waits_for_the_store(store, repository, serve):
    repository.put(1)
    for mode in ["watch", "static", "explicit"]:
        store.proxy.refuse()
        cache = store.url.replace("/", "_") + mode
        server = serve(ready_within=None, ONNXD_REPOSITORY__MODE=mode, ONNXD_REPOSITORY__CACHE_PATH=cache)
        wait_until(lambda: "cannot be read" in server.get("/health/ready").json()["error"], 60, "the reason is told")
        assert server.get("/health/live").ok
        if mode == "explicit":
            answer = requests.post(server.url("/v2/repository/models/iris/load"), timeout=30)
            assert (answer.status_code, "could not be read yet" in answer.text) == (503, True), answer.text
        store.proxy.start()
        wait_until(lambda: server.get("/health/ready").ok, 90, "onnxd is ready")
        assert serves(server, 1)
        server.stop()


def test_a_copy_that_is_not_what_it_was_is_not_served(store, repository, serve, tmp_path):
    repository.put(1)
    repository.put(2)
    serve().stop()
    file = mirrored(tmp_path, "iris/2/model.onnx")
    data = file.read_bytes()
    os.chmod(file, 0o600)
    file.write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    store.proxy.refuse()
    server = serve()
    assert serves(server, 1)
    store.proxy.start()
    wait_until(lambda: serves(server, 2), 90, "it was fetched anew")
    assert mirrored(tmp_path, "iris/2/model.onnx").read_bytes() == data


def test_two_servers_share_a_folder_for_the_cache(store, repository, serve):
    repository.put(1)
    first, second = serve(), serve()
    repository.put(2)
    for server in (first, second):
        wait_until(lambda: serves(server, 2), 60, "the new version serves")


def test_an_order_to_load_looks_at_the_store_first(store, repository, serve):
    repository.put(1)
    server = serve(ONNXD_REPOSITORY__MODE="explicit")
    repository.put(2)
    assert serves(server, 1)
    load = lambda: requests.post(server.url("/v2/repository/models/iris/load"), timeout=60)
    store.proxy.refuse()
    answer = load()
    assert (answer.status_code, "cannot be read" in answer.text) == (503, True), answer.text
    assert serves(server, 1)
    store.proxy.start()
    assert load().ok
    assert serves(server, 2)


def test_credentials_that_are_refused_are_told(store, repository, serve):
    repository.put(1)
    store.proxy.break_with("403")
    server = serve(ready_within=None)
    wait_until(lambda: "403" in server.get("/health/ready").json()["error"], 60, "the reason is told")
