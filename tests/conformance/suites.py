"""ONNX's own tests: those of the installed release, made in memory, and those that onnx 1.16.2 shipped as files."""

import hashlib
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import onnx
from cases import Case, inputs, key, left_out_for, nodes
from onnx import helper, numpy_helper
from server import TARGET

NEWEST = f"onnx-{onnx.__version__}/node"

# The last release before its successors stopped shipping files; read as a zip archive, never imported.
OLDER = "1.16.2"
WHEEL = f"onnx-{OLDER}-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
WHEEL_SHA256 = "7b98aa9733bd4b781eb931d33b4078ff2837e7d68062460726d6dd011f332bd4"
KINDS = ("node", "pytorch-converted", "pytorch-operator", "simple")


def all_cases():
    return [*newest(), *shipped()]


def newest():
    from onnx.backend.test.case.node import collect_testcases

    # Many cases draw their inputs; they shall be the same in every run.
    np.random.seed(0)
    with warnings.catch_warnings():
        # The reference code divides by zero on purpose.
        warnings.simplefilter("ignore", RuntimeWarning)
        tests = {test.name: test for test in collect_testcases(None)}
    for name, test in tests.items():
        base = tests.get(name.partition("_expanded")[0], test)
        data_sets = []
        if left_out_for(test.model) is None:
            data_sets = [(arrays(given), arrays(expected)) for given, expected in test.data_sets]
        yield Case(
            suite=NEWEST,
            name=name,
            model=test.model,
            data_sets=data_sets,
            operators=(key(base.model.graph.node[0]),),
            expanded=base is not test,
            rtol=test.rtol,
            atol=test.atol,
        )


def arrays(values):
    return [
        numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
        for value in values
    ]


def shipped():
    with zipfile.ZipFile(wheel()) as archive:
        for kind in KINDS:
            yield from shipped_kind(archive, kind)


def shipped_kind(archive, kind):
    root = f"onnx/backend/test/data/{kind}/"
    files = {}
    for path in archive.namelist():
        if path.startswith(root):
            name, _, file = path.removeprefix(root).partition("/")
            files.setdefault(name, set()).add(file)
    models = {
        name: onnx.load_model_from_string(archive.read(f"{root}{name}/model.onnx"))
        for name, found in sorted(files.items())
        if "model.onnx" in found
    }
    for name, model in models.items():
        base = models.get(name.partition("_expanded")[0], model)
        if kind == "node":
            operators = (key(base.graph.node[0]),)
        else:
            operators = tuple(sorted({key(node) for node in nodes(model.graph)} - {("ai.onnx", "Constant")}))
        data_sets = []
        if left_out_for(model) is None:
            data_sets = shipped_data(archive, f"{root}{name}", files[name], model)
        yield Case(
            suite=f"onnx-{OLDER}/{kind}",
            name=name,
            model=model,
            data_sets=data_sets,
            operators=operators,
            expanded=base is not model,
        )


def shipped_data(archive, folder, files, model):
    def tensor(path, declared):
        array = numpy_helper.to_array(onnx.TensorProto.FromString(archive.read(f"{folder}/{path}")))
        # The older release wrote bfloat16 as the whole numbers of its bits.
        is_bits = declared.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16 and array.dtype == np.uint16
        return array.view(helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)) if is_bits else array

    def tensors(name, declared):
        return [tensor(f"{name}_{index}.pb", value) for index, value in enumerate(declared)]

    sets = sorted({file.partition("/")[0] for file in files if file.endswith(".pb")})
    return [
        (tensors(f"{name}/input", inputs(model.graph)), tensors(f"{name}/output", model.graph.output))
        for name in sets
    ]


def wheel():
    """The wheel under target/, fetched when it is not there; always checked."""
    folder = TARGET / "conformance"
    path = folder / WHEEL
    if not path.exists():
        # The same file whatever Python runs this, since only its data count.
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
            + ["--python-version=3.11", "--implementation=cp", "--platform=manylinux_2_17_x86_64"]
            + [f"--dest={folder}", f"onnx=={OLDER}"],
            check=True,
        )
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise ValueError(f"{path} has the hash {found} instead of {WHEEL_SHA256}")
    return path
