"""RapidOCR's models (PP-OCRv4): where text is, which way up, and what it says."""

import agreement
import numpy as np
import pytest
from pictures import batch, line, scan

TOLERANCE = 1e-4
BATCHES = [1, 3, 8]
TEXTS = ["models", "tensor", "request", "server", "latency", "labels", "inference", "batch"]


def check(server, session, models, name, rows):
    """The server's only output and ONNX Runtime's, compared."""
    reference = agreement.runtime(models[name])
    wanted = dict(zip([output.name for output in reference.get_outputs()], reference.run(None, {"x": rows})))
    outputs = agreement.infer(server, session, name, {"x": rows})
    agreement.assert_close(outputs, wanted, TOLERANCE)
    [found], [wanted] = outputs.values(), wanted.values()
    return found, wanted


@pytest.mark.parametrize("size", [(320, 160), (256, 96)], ids=["large", "small"])
@pytest.mark.parametrize("rows", BATCHES)
def test_text_is_found(server, session, models, rows, size):
    corners = [(left, top) for left in (0, 20, 40, 64) for top in (0, 31)]
    pages = [scan("page.png", corner, size) for corner in corners]
    pixels = batch(pages, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    found, _ = check(server, session, models, "text_detection", pixels[:rows])
    assert ((found > 0.3).mean((1, 2, 3)) > 0.05).all(), "there is text on each page"


@pytest.mark.parametrize("width", [320, 240])
@pytest.mark.parametrize("rows", BATCHES)
def test_text_is_read(server, session, models, rows, width):
    pixels = batch([line(text, (width, 48)) for text in TEXTS[:rows]], 0.5, 0.5)
    found, wanted = check(server, session, models, "text_recognition", pixels)
    np.testing.assert_array_equal(found.argmax(-1), wanted.argmax(-1))
    assert [read(classes, models["text_recognition"]) for classes in found.argmax(-1)] == TEXTS[:rows]


def read(classes, model):
    """The text of one line: a class a step, where repeated ones count once and class 0 is none."""
    [characters] = [entry.value for entry in model.metadata_props if entry.key == "character"]
    characters = ["", *characters.splitlines(), " "]
    starts = np.append(True, classes[1:] != classes[:-1])
    return "".join(characters[index] for index in classes[starts])


@pytest.mark.parametrize("rows", BATCHES)
def test_text_upside_down_is_noticed(server, session, models, rows):
    lines = [line(text, (192, 48)) for text in TEXTS]
    turned = [number % 2 for number in range(len(lines))]
    pictures = [picture.rotate(180) if turn else picture for picture, turn in zip(lines, turned)]
    found, _ = check(server, session, models, "text_direction", batch(pictures[:rows], 0.5, 0.5))
    assert found.argmax(-1).tolist() == turned[:rows]
