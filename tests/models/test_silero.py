"""Silero's voice activity detectors, on a recording of speech, with the state carried from chunk to chunk."""

import wave

import agreement
import numpy as np
import pytest
from conftest import PACKAGES, SILERO

RECORDING = PACKAGES / "silero_vad-6.2.3" / "tests" / "data" / "test.wav"
RATE, CONTEXT, CHUNK = 16_000, 64, 512
CHUNKS = 8
TOLERANCE = 1e-4
# What serves, with the numbers of streams or steps that it takes at once.
SERVED = {"silero_vad_op18_ifless": [1, 3, 8], "silero_vad_openvino_16k": [1], "silero_vad_16k_sequence": [1, 3, 8]}
# tract types both branches of every If, whatever its condition, and these hold branches that fit no input
# of theirs: they squeeze dimensions that are not one.
REFUSED = ["silero_vad", "silero_vad_16k_op15", "silero_vad_half"]


def test_every_variant_is_listed():
    assert sorted(path.stem for path in SILERO.glob("*.onnx")) == sorted([*SERVED, *REFUSED])


@pytest.mark.parametrize("name", REFUSED)
def test_variants_with_unfit_branches_are_refused_readably(server, session, name):
    answer = session.post(server.url(f"/predict/{name}"), json={"instances": [[0.0]]})
    assert answer.status_code == 501
    reason = answer.json()["error"]
    assert f"'{name}'" in reason and "tract" in reason
    assert "If" in reason and "Squeeze" in reason, "the reason names the operators"


@pytest.mark.parametrize("name, streams", [(name, count) for name, counts in SERVED.items() for count in counts])
def test_speech_is_noticed_like_onnx_runtime(server, session, models, name, streams):
    reference = agreement.runtime(models[name])
    names = [output.name for output in reference.get_outputs()]
    inputs = {value.name: value for value in reference.get_inputs()}
    states = [state for state in inputs if state not in ("input", "sr")]
    ours = theirs = {state: np.zeros((*shape(inputs[state], streams),), np.float32) for state in states}
    speech = []
    for windows in chunks(name, streams):
        sound = {"input": windows} | ({"sr": np.array(RATE, np.int64)} if "sr" in inputs else {})
        wanted = dict(zip(names, reference.run(None, sound | theirs), strict=True))
        found = agreement.infer(server, session, name, sound | ours)
        agreement.assert_close(found, wanted, TOLERANCE)
        # Each goes on from its own state: a difference may not grow.
        ours, theirs = (dict(zip(states, list(outputs.values())[1:], strict=True)) for outputs in (found, wanted))
        speech.extend(found[names[0]].ravel())
    assert max(speech) > 0.9, "somebody speaks"


def shape(state, streams):
    """[2, streams, 128], or the model's own where it takes one stream only."""
    return [size if isinstance(size, int) else streams for size in state.shape]


def chunks(name, streams):
    """CHUNKS inputs of [streams, samples], each with the end of the one before it in front."""
    sound = recording()
    size = CONTEXT + CHUNK
    steps = streams if name.endswith("sequence") else 1
    # Streams begin a second apart; a sequence takes one stream, several windows at a time.
    begins = [RATE * stream for stream in range(streams // steps)]
    for step in range(CHUNKS):
        at = [begin + CHUNK * (step * steps + window) for begin in begins for window in range(steps)]
        yield np.stack([sound[start : start + size] for start in at])


def recording():
    """The samples, -1 to 1."""
    with wave.open(str(RECORDING)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return (samples / 2**15).round(4).astype(np.float32)
