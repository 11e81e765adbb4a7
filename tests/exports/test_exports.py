"""Common networks as PyTorch exports them, at several batch sizes, against ONNX Runtime."""

import subprocess

import agreement
import numpy as np
import pytest
import requests
from server import REPOSITORY, TARGET

PYTHON = TARGET / "venv-train" / "bin" / "python"
IMAGE, SERIES = (3, 224, 224), (20, 16)
SHAPES = {
    "mobilenet_v3_small": IMAGE,
    "resnet18": IMAGE,
    "efficientnet_b0": IMAGE,
    "lstm": SERIES,
    "bidirectional_gru": SERIES,
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    subprocess.run([PYTHON, REPOSITORY / "tests" / "exports" / "export.py", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory, exported):
    with agreement.serving_folder(tmp_path_factory, exported) as running:
        yield running


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("exporter", ["default", "torchscript"])
@pytest.mark.parametrize("network", SHAPES)
def test_exports_answer_like_onnx_runtime(server, exported, network, exporter, rows):
    name = f"{network}_{exporter}"
    x = np.random.default_rng(0).normal(size=(rows, *SHAPES[network])).round(3).astype(np.float32)
    reference = agreement.runtime(exported / name / "model.onnx")
    names = [output.name for output in reference.get_outputs()]
    wanted = dict(zip(names, reference.run(None, {"x": x}), strict=True))
    found = agreement.infer(server, requests, name, {"x": x})
    agreement.assert_close(found, wanted, 1e-4)
    if "scores" in wanted:
        np.testing.assert_array_equal(found["scores"].argmax(1), wanted["scores"].argmax(1))
