"""The ways in which a server can have its engines: each alone, and `auto` without and with ONNX Runtime."""

from server import onnxruntime

ALONE = ["tract", "rten", "onnxruntime"]
WAYS = {
    **{name: {"ONNXD_INFERENCE__ENGINE": name} | onnxruntime(name == "onnxruntime") for name in ALONE},
    "auto": onnxruntime(False),
    "auto_with_onnxruntime": onnxruntime(True),
}


def health(server):
    """What /health says of each model, by name."""
    return {model["name"]: model for model in server.get("/health").json()["models"]}
