"""Trains and exports both versions of the digits model: python models/train/digits.py"""

import io
import warnings

import onnx
import torch
from torch import nn

from data import training
from export import OPSET, output_folder, report, save


def small():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 2 * 2, 10),
    )  # fmt: skip


def large():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 2 * 2, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


class Served(nn.Module):
    """The network with what a caller should not have to do: scaling, ArgMax and Softmax."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        scores = self.network(image / 16.0)  # pixels are 0 to 16
        return scores.argmax(1), scores.softmax(1)


def train(network, epochs):
    images, labels = (torch.from_numpy(array) for array in training("digits"))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    network.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[rows] / 16.0), labels[rows]).backward()
            optimizer.step()
        schedule.step()


def convert(served):
    file = io.BytesIO()
    # The older exporter, on purpose: it writes the plainer graph of these few layers.
    warnings.filterwarnings("ignore", "You are using the legacy", DeprecationWarning)
    torch.onnx.export(
        served,
        # Two rows, not one, so that the exporter cannot take the batch for a constant 1.
        (torch.zeros(2, 1, 8, 8),),
        file,
        input_names=["image"],
        output_names=["label", "probabilities"],
        dynamic_axes={name: {0: "batch"} for name in ("image", "label", "probabilities")},
        opset_version=OPSET,
        dynamo=False,
    )
    return onnx.load_from_string(file.getvalue())


def main():
    repository = output_folder(__doc__)
    # One thread and fixed kernels: sums are then added up in the same order every time, on
    # one kind of processor. Another adds in another order, and an image or two may change.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for version, build in [(1, small), (2, large)]:
        torch.manual_seed(version)
        network = build()
        train(network, epochs=40)
        served = Served(network).eval()

        def reference(rows):
            with torch.no_grad():
                return [output.numpy() for output in served(torch.from_numpy(rows))]

        report(save(convert(served), repository, "digits", version), reference)


if __name__ == "__main__":
    main()
