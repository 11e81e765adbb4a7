"""Names in a bucket: those that no folder can have are passed over, and there may be many."""

from polling import wait_until
from repository import IRIS, infer, serves


def test_strange_names_are_passed_over(store, repository, serve, tmp_path):
    repository.put(1)
    store.put("../outside/1/model.onnx", IRIS[1])
    store.put("iris/../../../escaped", b"x")
    store.put("iris//1/model.onnx", b"x")
    store.put("iris/1/back\\slash", b"x")
    store.put("empty/", b"")
    store.put("iris/", b"")
    store.put("iris/1/", b"")
    store.put("my model/1/model.onnx", IRIS[1])
    server = serve()
    assert serves(server, 1)
    assert [model["name"] for model in server.get("/health").json()["models"]] == ["iris"]
    log = server.log.read_text()
    for name in ["iris//1/model.onnx", "escaped", "back"]:
        assert name in log, name
    assert log.count("iris//1/model.onnx") == 1
    names = [path.name for path in tmp_path.rglob("*")]
    assert "escaped" not in names and "outside" not in names


def test_a_bucket_with_nothing_but_folders_is_empty(store, serve):
    store.put("iris/", b"")
    server = serve(ready_within=None)
    wait_until(lambda: "empty" in server.get("/health/ready").json()["error"], 60, "it says so")


def test_a_listing_of_many_pages_is_read_to_its_end(store, repository, serve):
    for number in range(2100):
        store.put(f"iris/1/notes/{number:04}.txt", str(number).encode())
    repository.put(1)
    store.put("zinnia/1/model.onnx", IRIS[2])
    server = serve(ready_within=120)
    assert serves(server, 1)
    assert infer(server, "zinnia").ok


def test_what_stands_beside_the_models_is_left_where_it_is(store, repository, serve, tmp_path):
    repository.put(1)
    store.put("train/data.bin", b"x" * 1000)
    store.put("README.md", b"x")
    server = serve()
    assert serves(server, 1)
    assert not [path for path in tmp_path.rglob("data.bin")] + [path for path in tmp_path.rglob("README.md")]


def test_a_url_may_name_one_file(store, serve):
    store.put("squeeze.onnx", IRIS[1])
    store.url += "/squeeze.onnx"
    server = serve()
    assert infer(server, "squeeze").ok
    store.put("squeeze.onnx", IRIS[2])
    before = infer(server, "squeeze").json()["outputs"]
    wait_until(lambda: infer(server, "squeeze").json()["outputs"] != before, 30, "the new file serves")
