"""What is built: the repository's Dockerfile, under the name that k8s/ uses."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = "ml-model:v2"
# The same with ONNX Runtime, and the stage that it is.
ORT_IMAGE, ORT_STAGE = "ml-model:v2-ort", "onnxd-ort"
# Stands for the commit, so that its way into the binary and the labels can be followed.
COMMIT = "0123456789abcdef"
