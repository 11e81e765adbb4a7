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
# Every variant, with the numbers of streams or steps that it takes at once.
VARIANTS = {
    "silero_vad": [1, 3, 8],
    "silero_vad_op18_ifless": [1, 3, 8],
    "silero_vad_openvino_16k": [1],
    "silero_vad_16k_sequence": [1, 3, 8],
    "silero_vad_16k_op15": [1, 3, 8],
    "silero_vad_half": [1, 3, 8],
}
# tract types both branches of every If, whatever its condition, and these numbers of streams do not fit one
# of them, which squeezes dimensions that are not one.
TRACT_REFUSES = {"silero_vad": [1, 3, 8], "silero_vad_16k_op15": [3, 8], "silero_vad_half": [3, 8]}


def test_every_variant_is_listed():
    assert sorted(path.stem for path in SILERO.glob("*.onnx")) == sorted(VARIANTS)


@pytest.mark.parametrize("name, streams", [(name, count) for name, counts in VARIANTS.items() for count in counts])
def test_speech_is_noticed_like_onnx_runtime(server, session, models, way, name, streams):
    if way == "tract" and streams in TRACT_REFUSES.get(name, []):
        refused_readably(server, session, name, streams)
        return
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


def refused_readably(server, session, name, streams):
    states, rate = np.zeros((2, streams, 128), np.float32), {"sr": np.array(RATE, np.int64)}
    inputs = {"input": next(chunks(name, streams)), "state": states} | ({} if name == "silero_vad_half" else rate)
    with pytest.raises(AssertionError, match="tract cannot run the model with these inputs: operator If .*squeeze"):
        agreement.infer(server, session, name, inputs)


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
