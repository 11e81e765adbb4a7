"""Common networks as PyTorch exports them, at several batch sizes, against ONNX Runtime: on each engine, and on `auto`."""

import re
from functools import cache

import agreement
import engines
import numpy as np
import pytest
from conftest import EXPORTS
from engines import ALONE, WAYS

IMAGE, SERIES = (3, 224, 224), (20, 16)
SHAPES = {
    "mobilenet_v3_small": IMAGE,
    "resnet18": IMAGE,
    "efficientnet_b0": IMAGE,
    "vit_b_16": IMAGE,
    "lstm": SERIES,
    "bidirectional_gru": SERIES,
}
EXPORTERS = ["default", "torchscript"]
BATCHES = [1, 3, 8]
LENGTHS = [2, 9, 64]
VOCABULARY = 30_522
# By engine, the networks that it does not take, with what its reason must have in it.
REFUSED = {engine: {} for engine in ALONE}
# Networks that an engine takes so much longer to load than another that it may be given up where the machine is busy.
SLOW = {"vit_b_16": ["tract"]}


@cache
def runtime(name):
    return agreement.runtime(EXPORTS / name / "model.onnx")


def check(server, session, way, name, inputs):
    """The outputs of both, compared; nothing where the engine is known to refuse the network."""
    if name in REFUSED.get(way, {}):
        return None
    reference = runtime(name)
    names = [output.name for output in reference.get_outputs()]
    wanted = dict(zip(names, reference.run(None, inputs), strict=True))
    found = agreement.infer(server, session, name, inputs)
    agreement.assert_close(found, wanted, 1e-4)
    return found, wanted


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("network", [*SHAPES, "minilm"])
def test_each_engine_takes_what_it_is_known_to_take(server, way, network, exporter):
    name = f"{network}_{exporter}"
    model = engines.health(server)[name]
    if why := REFUSED.get(way, {}).get(name):
        assert model["state"] == "failed"
        assert re.search(why, model["reason"])
        return
    assert model["state"] == "ready", model
    if way in ALONE:
        assert model["engine"] == way
        return
    findings = {finding["name"]: finding for finding in model["engines"]}
    assert [*findings] == (ALONE if WAYS[way] == WAYS["auto_with_onnxruntime"] else ALONE[:2])
    late = [engine for engine in SLOW.get(network, []) if "takes far longer" in findings[engine]["reason"]]
    refused = [engine for engine in findings if name in REFUSED[engine]]
    taking = [engine for engine in findings if engine not in late + refused]
    for engine in refused:
        assert findings[engine]["standing"] == "refuses"
        assert re.search(REFUSED[engine][name], findings[engine]["reason"])
    standing = "agrees" if len(taking) > 1 else "alone"
    assert {engine: findings[engine]["standing"] for engine in taking} == dict.fromkeys(taking, standing), findings


@pytest.mark.parametrize("rows", BATCHES)
@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("network", SHAPES)
def test_exports_answer_like_onnx_runtime(server, session, way, network, exporter, rows):
    x = np.random.default_rng(0).normal(size=(rows, *SHAPES[network])).round(3).astype(np.float32)
    answers = check(server, session, way, f"{network}_{exporter}", {"x": x})
    if answers and SHAPES[network] == IMAGE:
        found, wanted = (outputs["scores"].argmax(1) for outputs in answers)
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("tokens", LENGTHS)
@pytest.mark.parametrize("rows", BATCHES)
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_sentences_answer_like_onnx_runtime(server, session, way, exporter, rows, tokens):
    """Texts of different lengths in one batch: the mask tells where each ends."""
    random = np.random.default_rng(0)
    ids = random.integers(0, VOCABULARY, (rows, tokens))
    mask = np.arange(tokens)[None] < random.integers(1, tokens + 1, (rows, 1))
    inputs = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
    if answers := check(server, session, way, f"minilm_{exporter}", inputs):
        lengths = np.linalg.norm(answers[0]["embedding"], axis=1)
        np.testing.assert_allclose(lengths, 1, atol=1e-3)
