"""Writes the golden requests of the bundled models out of what ONNX Runtime was recorded to answer.

Written anew by record_expected.py; by itself it needs no package:
    python tests/data/write_golden.py
"""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# By name, the rows of those that were recorded.
REQUESTS = {"one-row": slice(0, 1), "three-rows": slice(1, 4)}

DATATYPES = {bool: "BOOL", float: "FP32", int: "INT64", str: "BYTES"}


def tensor(name, nested):
    shape, flat = [len(nested)], nested
    while isinstance(flat[0], list):
        shape.append(len(flat[0]))
        flat = [value for inner in flat for value in inner]
    return {"name": name, "datatype": DATATYPES[type(flat[0])], "shape": shape, "data": flat}


def write_golden(recorded):
    folder = ROOT / "models" / recorded["model"] / recorded["version"] / "golden"
    folder.mkdir(exist_ok=True)
    for name, rows in REQUESTS.items():
        inputs, outputs = (
            [tensor(name, rows_of[rows]) for name, rows_of in recorded[part].items()]
            for part in ("inputs", "outputs")
        )
        parts = {"request": {"inputs": inputs}, "response": {"outputs": outputs}}
        lines = [
            f"{json.dumps(part)}:{json.dumps(tensors, separators=(',', ':'))}"
            for part, tensors in parts.items()
        ]
        path = folder / f"{name}.json"
        path.write_text("{" + ",\n".join(lines) + "}\n")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    for path in sorted(Path(__file__).parent.glob("expected/*.json")):
        write_golden(json.loads(path.read_text()))
