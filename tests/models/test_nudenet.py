"""NudeNet's detector (YOLOv8), on photographs."""

import agreement
import numpy as np
import pytest
from pictures import batch, photograph

NAMES = ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png", "color.png", "retina.jpg", "ihc.png"]
FACE = 4 + 1  # after the four of the box: FACE_FEMALE is class 1


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_detector_answers_like_onnx_runtime(server, session, models, rows):
    pixels = batch([photograph(name, (320, 320)) for name in NAMES[:rows]], 0, 1)
    wanted = agreement.runtime(models["nudenet"]).run(None, {"images": pixels})
    outputs = agreement.infer(server, session, "nudenet", {"images": pixels})
    agreement.assert_close(outputs, {"output0": wanted[0]}, 1e-4)
    scores, wanted = outputs["output0"][:, 4:], wanted[0][:, 4:]
    np.testing.assert_allclose(scores, wanted, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(scores.max(2).argmax(1), wanted.max(2).argmax(1))
    assert outputs["output0"][0, FACE].max() > 0.5, "the astronaut's face is found"
