"""Distortions stay within bounds and can be repeated."""

import numpy as np
import pytest
import torch

from model.augment import Distortion, distorted
from model.synthetic import draw

DIGITS = torch.from_numpy(np.stack([draw(d, size=20, pen=0.12, canvas=(28, 28)) for d in range(10)]))[:, None]
NONE = Distortion(rotation=0, scale=0, shear=0, shift=0, elastic=0, stroke=0, contrast=0)
ALL = Distortion(rotation=10, scale=0.1, shear=0.1, shift=1, elastic=0.6, stroke=0.3, contrast=0.4)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_no_distortion_changes_nothing():
    assert torch.allclose(distorted(DIGITS, NONE, seeded()), DIGITS, atol=1e-5)


def test_equal_seeds_give_equal_images_and_other_seeds_other_images():
    assert torch.equal(distorted(DIGITS, ALL, seeded()), distorted(DIGITS, ALL, seeded()))
    assert not torch.equal(distorted(DIGITS, ALL, seeded()), distorted(DIGITS, ALL, seeded(1)))


def test_pixels_stay_in_range_and_the_input_is_not_changed():
    before = DIGITS.clone()
    found = distorted(DIGITS.repeat(20, 1, 1, 1), ALL, seeded())
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6
    assert torch.equal(DIGITS, before)


@pytest.mark.parametrize("kind", ["rotation", "scale", "shear", "shift", "elastic", "stroke", "contrast"])
def test_each_kind_distorts_alone(kind):
    one = Distortion(**(vars(NONE) | {kind: vars(ALL)[kind] * 2}))
    assert (distorted(DIGITS.repeat(10, 1, 1, 1), one, seeded()) - DIGITS.repeat(10, 1, 1, 1)).abs().mean() > 0.005


def test_strokes_become_thicker_and_thinner():
    by = Distortion(**(vars(NONE) | {"stroke": 1.0}))
    images = DIGITS.repeat(50, 1, 1, 1)
    change = distorted(images, by, seeded()).sum((1, 2, 3)) / images.sum((1, 2, 3))
    assert change.min() < 0.7
    assert change.max() > 1.4
