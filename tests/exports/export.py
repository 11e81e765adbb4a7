"""Exports networks from PyTorch as its users do, by both exporters: python tests/exports/export.py FOLDER

FOLDER/<network>_<exporter>/model.onnx, and beside it what the newer exporter leaves out of it by default: the weights.
The weights are random: this is about operators and shapes.
"""

import sys
import warnings
from pathlib import Path

import torch
import torchvision
from torch import nn


class Sequence(nn.Module):
    """A recurrent network over [rows, steps, features] that answers all steps and the last."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        steps, _ = self.layers(x)
        return steps, steps[:, -1]


IMAGE, SERIES = (3, 224, 224), (20, 16)
NETWORKS = {
    "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small, IMAGE),
    "resnet18": (torchvision.models.resnet18, IMAGE),
    "efficientnet_b0": (torchvision.models.efficientnet_b0, IMAGE),
    "lstm": (lambda: Sequence(nn.LSTM(16, 32, num_layers=2, batch_first=True)), SERIES),
    "bidirectional_gru": (lambda: Sequence(nn.GRU(16, 32, bidirectional=True, batch_first=True)), SERIES),
}


def export(folder, name):
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    network = build().eval()
    # Two rows, so that neither exporter takes the batch for a constant 1.
    rows = (torch.zeros(2, *shape),)
    batch = torch.export.Dim.DYNAMIC
    outputs = ["steps", "last"] if shape == SERIES else ["scores"]
    names = {"input_names": ["x"], "output_names": outputs}
    exporters = {
        "default": {"dynamic_shapes": ({0: batch},)},
        "torchscript": {"dynamo": False, "dynamic_axes": {name: {0: "batch"} for name in ["x", *outputs]}},
    }
    for exporter, options in exporters.items():
        path = folder / f"{name}_{exporter}" / "model.onnx"
        path.parent.mkdir(parents=True)
        torch.onnx.export(network, rows, path, verbose=False, **names, **options)


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in NETWORKS:
        export(Path(sys.argv[1]), name)


if __name__ == "__main__":
    main()
