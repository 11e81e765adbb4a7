"""Weights in files of their own: read where they may be, refused where they may not, with ONNX Runtime as the truth."""

import os
import shutil

import agreement
import numpy as np
import onnx
import onnxruntime
import pytest
import requests
import v2
from onnx import TensorProto, helper, numpy_helper
from server import Server

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def value(name, dims):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims)


def made():
    """Two weights, both large enough to be put aside."""
    random = np.random.default_rng(0)
    nodes = [helper.make_node("MatMul", ["x", "first"], ["h"]), helper.make_node("MatMul", ["h", "second"], ["y"])]
    weights = [
        numpy_helper.from_array(random.normal(size=size).astype(np.float32), name)
        for name, size in [("first", (4, 500)), ("second", (500, 2))]
    ]
    graph = helper.make_graph(nodes, "graph", [value("x", ["rows", 4])], [value("y", ["rows", 2])], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


[WANTED] = onnxruntime.InferenceSession(made().SerializeToString(), agreement.QUIET).run(None, {"x": X})


def save(path, one_file=True):
    """Saves the model with its data beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    location = f"{path.name}.data" if one_file else None
    options = {"save_as_external_data": True, "all_tensors_to_one_file": one_file, "size_threshold": 0}
    onnx.save(made(), path, location=location, **options)


def rewrite(path, **entries):
    """Says something else of where the first weight is."""
    model = onnx.load(path, load_external_data=False)
    tensor = model.graph.initializer[0]
    known = {entry.key: entry.value for entry in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, text in known.items():
        if text is not None:
            tensor.external_data.add(key=key, value=str(text))
    path.write_bytes(model.SerializeToString())


def mounted(folder):
    """What Kubernetes makes of a ConfigMap: every file is a link through `..data`."""
    save(folder / "..2026" / "model.onnx")
    (folder / "..data").symlink_to("..2026")
    for name in ("model.onnx", "model.onnx.data"):
        (folder / name).symlink_to(f"..data/{name}")


def beside(folder):
    save(folder / "model.onnx")
    (folder / "weights").mkdir()
    shutil.move(folder / "model.onnx.data", folder / "weights" / "all.bin")
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = "weights/all.bin"
    (folder / "model.onnx").write_bytes(model.SerializeToString())


SERVED = {
    "one_file": lambda folder: save(folder / "1" / "model.onnx"),
    "many_files": lambda folder: save(folder / "1" / "model.onnx", one_file=False),
    "unversioned": lambda folder: save(folder / "model.onnx"),
    "deeper": beside,
    "mounted": mounted,
    "mounted_version": lambda folder: mounted(folder / "1"),
}


def broken(change):
    def make(folder):
        path = folder / "model.onnx"
        save(path)
        change(path, folder / "model.onnx.data")

    return make


def cut(path, data):
    os.truncate(data, 100)


def replaced(special):
    def change(path, data):
        data.unlink()
        special(data)

    return change


# How to break it, and what the reason says after `external data of tensor 'first': `.
REFUSED = {
    "missing": (lambda path, data: data.unlink(), "No such file or directory"),
    "cut": (cut, "8000 bytes from byte 0 on are beyond the 100 bytes of model.onnx.data"),
    "offset": (lambda path, data: rewrite(path, offset=2**40), "from byte 1099511627776 on are beyond the"),
    "overflow": (lambda path, data: rewrite(path, offset=2**64 - 1), "are beyond the"),
    "negative": (lambda path, data: rewrite(path, offset=-1), "offset '-1' is not a number of bytes"),
    "length": (lambda path, data: rewrite(path, length=4), "the tensor needs 8000 bytes and the file gives it 4"),
    "no_number": (lambda path, data: rewrite(path, length="all"), "length 'all' is not a number of bytes"),
    "no_location": (lambda path, data: rewrite(path, location=None), "no location is given"),
    "empty": (lambda path, data: rewrite(path, location=""), "must be a path inside the model's folder"),
    "absolute": (lambda path, data: rewrite(path, location=data), "must be a path inside the model's folder"),
    "passwd": (lambda path, data: rewrite(path, location="/etc/passwd"), "must be a path inside the model's folder"),
    "parent": (
        lambda path, data: rewrite(path, location="../one_file/1/model.onnx.data"),
        "must be a path inside the model's folder",
    ),
    "round_trip": (
        lambda path, data: rewrite(path, location="../round_trip/model.onnx.data"),
        "must be a path inside the model's folder",
    ),
    "link_out": (replaced(lambda data: data.symlink_to("/etc/passwd")), "leads out of the model's folder"),
    "link_to_zero": (replaced(lambda data: data.symlink_to("/dev/zero")), "leads out of the model's folder"),
    "link_to_itself": (replaced(lambda data: data.symlink_to(data.name)), "model.onnx.data: "),
    "folder": (replaced(lambda data: data.mkdir()), "model.onnx.data is not a file"),
    "fifo": (replaced(os.mkfifo), "model.onnx.data is not a file"),
    "device": (lambda path, data: rewrite(path, location="/dev/zero"), "must be a path inside the model's folder"),
}


@pytest.fixture(scope="module")
def external(tmp_path_factory):
    folder = tmp_path_factory.mktemp("external")
    models = folder / "models"
    for name, make in SERVED.items():
        make(models / name)
    for name, (change, _) in REFUSED.items():
        broken(change)(models / name)
    save(models / "bare.onnx")
    running = Server(folder, models=models, ONNXD_REPOSITORY__REQUIRE_ALL="false")
    try:
        yield running
    finally:
        running.kill()


@pytest.mark.parametrize("name", [*SERVED, "bare"])
def test_weights_beside_the_model_are_read(external, session, name):
    v2.assert_same(v2.infer(external, session, name, {"x": X})["y"], WANTED)


@pytest.mark.parametrize("name", REFUSED)
def test_weights_that_are_not_the_models_own_are_refused(external, name):
    states = {model["name"]: model for model in external.get("/health").json()["models"]}
    assert states[name]["state"] == "failed"
    reason = states[name]["reason"]
    assert reason.startswith("external data of tensor 'first': ")
    assert REFUSED[name][1] in reason


def test_a_model_that_is_given_alone_finds_its_weights(tmp_path):
    """`--models FILE`, also where the path has no folder in it."""
    save(tmp_path / "alone.onnx")
    running = Server(tmp_path, models="alone.onnx")
    try:
        v2.assert_same(v2.infer(running, requests, "alone", {"x": X})["y"], WANTED)
    finally:
        running.kill()
