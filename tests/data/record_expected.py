"""Records what ONNX Runtime answers for the first held-out rows of every bundled model.

The Rust tests compare the server to these files offline, and the golden requests beside the models are made of them.
Write them anew after training:
    python tests/data/record_expected.py
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models" / "train"))
from data import held_out  # noqa: E402
from write_golden import write_golden  # noqa: E402

ROWS = 24


def plain(array):
    """Nested lists whose floats are the shortest text that reads back as the same float32."""
    if array.dtype == np.float32:
        shortest = np.array([float(str(x)) for x in array.flat]).reshape(array.shape)
        # Holds too for a reader that goes through a double first, as most JSON parsers do.
        assert (shortest.astype(np.float32) == array).all()
        array = shortest
    return array.tolist()


def record(model, version):
    session = onnxruntime.InferenceSession(
        ROOT / "models" / model / version / "model.onnx", providers=["CPUExecutionProvider"]
    )
    features, _ = held_out(model)
    inputs = {session.get_inputs()[0].name: features[:ROWS]}
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, inputs)))
    content = {
        "model": model,
        "version": version,
        "onnxruntime": onnxruntime.__version__,
        "inputs": {name: plain(array) for name, array in inputs.items()},
        "outputs": {name: plain(array) for name, array in outputs.items()},
    }
    path = Path(__file__).parent / "expected" / f"{model}-{version}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")
    print(f"{path.relative_to(ROOT)}: {len(features[:ROWS])} rows")
    write_golden(content)


if __name__ == "__main__":
    for path in sorted(ROOT.glob("models/*/*/model.onnx")):
        record(*path.parts[-3:-1])
