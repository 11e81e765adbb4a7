"""Magika, which tells what is in a file, on files of this repository."""

import json

import agreement
import numpy as np
import pytest
from conftest import PACKAGES
from server import REPOSITORY

# What each is known to be, and what Magika calls it.
KINDS = {
    "src/main.rs": "rust",
    "tests/run.sh": "shell",
    "models/train/data.py": "python",
    "Cargo.toml": "toml",
    "k8s/deployment.yaml": "yaml",
    "README.md": "markdown",
    "models/digits/2/model.onnx": "onnx",
    "Dockerfile": "dockerfile",
}
CONFIG = json.loads((PACKAGES / "magika/models/standard_v3_3/config.min.json").read_text())


def features(file):
    """The first and the last 1024 bytes without the white space around them, filled up with 256."""
    content, block = (REPOSITORY / file).read_bytes(), CONFIG["block_size"]
    first = content[:block].lstrip()[: CONFIG["beg_size"]]
    last = content[-block:].rstrip()[-CONFIG["end_size"] :]
    numbers = np.full(CONFIG["beg_size"] + CONFIG["end_size"], CONFIG["padding_token"], np.int32)
    numbers[: len(first)] = list(first)
    numbers[len(numbers) - len(last) :] = list(last)
    return numbers


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_files_are_told_apart_like_onnx_runtime(server, session, models, rows):
    inputs = {"bytes": np.stack([features(file) for file in KINDS])[:rows]}
    [wanted] = agreement.runtime(models["magika"]).run(None, inputs)
    [found] = agreement.infer(server, session, "magika", inputs).values()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)
    labels = [CONFIG["target_labels_space"][index] for index in found.argmax(1)]
    assert labels == [*KINDS.values()][:rows]
