"""The network's shapes and size."""

import pytest
import torch

from model.networks.cnn import CNN, parameters


@pytest.mark.parametrize("images", [1, 7])
def test_images_become_ten_logits_each(images):
    assert CNN(4).eval()(torch.zeros(images, 1, 28, 28)).shape == (images, 10)


def test_the_default_width_stays_small():
    assert parameters(CNN(16)) <= 150_000
