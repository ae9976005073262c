import pytest
import torch

from bench import training

pytestmark = pytest.mark.slow


@pytest.mark.slow
def test_the_example_yields_time_and_accuracy_after_each_epoch(monkeypatch):
    monkeypatch.setattr(training, "EPOCHS", 2)
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand((20, 1, 28, 28), generator=generator), torch.arange(20) % 10
    epochs = list(training.theirs(images, labels, images, labels))
    assert len(epochs) == 2
    assert epochs[0][0] < epochs[1][0]
    assert all(0 <= accuracy <= 1 for _, accuracy in epochs)


def test_the_example_has_the_size_of_pytorchs():
    assert sum(parameter.numel() for parameter in training.example().parameters()) == 1_199_882
