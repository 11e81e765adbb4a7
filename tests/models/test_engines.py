"""Which engine takes which of these models, and why not where it does not: so that a change is seen."""

import re

import engines
import pytest
from conftest import FILES, SILERO

MODELS = [*FILES, *sorted(path.stem for path in SILERO.glob("*.onnx"))]
# By engine, the models that it does not take, with what its reason must have in it. None at this time: tract leaves
# the original Silero to its requests, which it then refuses (test_silero.py).
REFUSED = {"tract": {}, "rten": {}, "onnxruntime": {}}
# Where several engines take part: those that may not serve, for what they fail with on a made-up request.
FAILS = {
    "silero_vad": {"tract": "operator If .*squeeze"},
    "silero_vad_16k_op15": {"tract": "operator If .*squeeze"},
    "silero_vad_half": {"tract": "operator If .*squeeze"},
}
TAKE_PART = {"auto": ["tract", "rten"], "auto_with_onnxruntime": ["tract", "rten", "onnxruntime"]}


@pytest.mark.parametrize("name", MODELS)
def test_each_engine_takes_what_it_is_known_to_take(server, way, name):
    model = engines.health(server)[name]
    if why := REFUSED.get(way, {}).get(name):
        assert model["state"] == "failed"
        assert re.search(why, model["reason"])
        return
    assert model["state"] == "ready", model
    if way in TAKE_PART:
        compare(TAKE_PART[way], name, model)
    else:
        assert model["engine"] == way


def compare(names, name, model):
    """Engines that serve a model agree, and each of the others has the reason that is known."""
    findings = {finding["name"]: finding for finding in model["engines"]}
    assert [*findings] == names
    for engine, finding in findings.items():
        if why := REFUSED[engine].get(name):
            assert finding["standing"] == "refuses"
        elif why := FAILS.get(name, {}).get(engine):
            assert finding["standing"] == "fails"
        else:
            why = "answers like "
            assert finding["standing"] == "agrees", finding
        assert re.search(why, finding["reason"])
    assert findings[model["engine"]]["standing"] == "agrees"
