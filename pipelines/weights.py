"""The trained network, as `train` hands it to `evaluate` and `export`."""

import json

import torch
from torch import nn

from model.networks.cnn import CNN
from pipelines import paths, stage


def save(network: nn.Module, width: int, classes: int) -> None:
    """Writes the weights of `network`, a `CNN` of this width for this number of classes."""
    with stage.writing(paths.WEIGHTS) as half:
        torch.save({"width": width, "classes": classes, "weights": network.state_dict()}, half)


def load() -> tuple[CNN, dict[str, float]]:
    """The network on the CPU, and its calibration."""
    saved = torch.load(paths.WEIGHTS, weights_only=True)
    network = CNN(saved["width"], saved["classes"])
    network.load_state_dict(saved["weights"])
    calibration: dict[str, float] = json.loads(paths.CALIBRATION.read_text())
    return network, calibration
