"""The training loop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from model.augment import Distortion
from model.networks.cnn import CNN
from model.synthetic import write
from model.training import Group, Recipe, logits, train

pytestmark = pytest.mark.slow

RECIPE = Recipe(images_seen=6_400, batch_size=64, learning_rate=0.01, weight_decay=0.01, label_smoothing=0, average=0.2,
                augment=Distortion(8, 0.08, 0.1, 1, 0.5, 0.2, 0), seed=0, report_every=1_600)  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    images, labels = write(600, seed=0)
    return Group(images[:500], labels[:500]), Group(images[500:], labels[500:])


def trained(groups, validation, recipe=RECIPE):
    torch.manual_seed(0)
    network = CNN(width=4)
    return network, list(train(network, groups, validation, recipe))


def weights(network):
    return torch.cat([value.flatten().float() for value in network.state_dict().values()])


def test_a_network_learns_and_reports_as_often_as_asked(digits):
    fit, held = digits
    network, reports = trained([fit], held)
    assert [report.images_seen for report in reports] == [1_600, 3_200, 4_800, 6_400]
    assert [report.epoch for report in reports] == [1, 2, 3, 4]
    assert reports[-1].loss < reports[0].loss
    assert reports[-1].validation_accuracy > 0.6  # chance is 0.1
    found = (logits(network, held.images).argmax(axis=1) == held.labels).mean()
    assert reports[-1].validation_accuracy == pytest.approx(found)


def test_equal_seeds_train_equal_networks_and_other_seeds_other_networks(digits):
    short = replace(RECIPE, images_seen=640)
    first, again = (weights(trained([digits[0]], digits[1], short)[0]) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, weights(trained([digits[0]], digits[1], replace(short, seed=1))[0]))


def test_a_batch_takes_its_share_of_each_group():
    """The groups are blank images of different levels; the network keeps its input."""

    class Eye(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(10))
            self.shown = []

        def forward(self, images):
            if self.training:
                self.shown.append(images[:, 0, 0, 0])
            return self.weight.expand(len(images), 10)

    few, many = (Group(np.full((n, 28, 28), level, np.uint8), np.zeros(n, np.uint8), share)
                 for n, level, share in ((3, 255, 0.25), (1000, 0, 0.75)))  # fmt: skip
    eye = Eye()
    list(train(eye, [many, few], many, replace(RECIPE, augment=None, images_seen=640)))
    assert [int(levels.sum()) for levels in eye.shown] == [16] * 10


def test_every_image_comes_once_before_any_comes_again(digits):
    shown = []

    class Eye(nn.Linear):
        def forward(self, images):
            if self.training:
                shown.append((images[:, 0, 0, 0] * 255).round().int())
            return super().forward(images.flatten(1))

    numbered = Group(np.repeat(np.arange(128, dtype=np.uint8), 28 * 28).reshape(-1, 28, 28), np.zeros(128, np.uint8))
    list(train(Eye(28 * 28, 10), [numbered], numbered, replace(RECIPE, augment=None, images_seen=256)))
    order = torch.cat(shown).tolist()
    assert sorted(order[:128]) == sorted(order[128:]) == list(range(128))
    assert order[:128] != order[128:]


def test_outliers_teach_the_network_to_be_unsure_of_them(digits):
    fit, held = digits
    rng = np.random.default_rng(0)
    squares = np.zeros((100, 28, 28), np.uint8)
    for square, (top, left) in zip(squares, rng.integers(2, 10, (100, 2)), strict=True):
        square[top : top + 14, left : left + 14] = 255
    taught, _ = trained([fit, Group(squares, np.full(100, 10, np.uint8), 0.2)], held)
    plain, _ = trained([fit], held)
    sure = [torch.from_numpy(logits(network, squares)).softmax(1).amax(1).mean() for network in (taught, plain)]
    assert sure[0] < 0.3
    assert sure[0] < sure[1] - 0.2


def test_weights_are_averaged_over_the_end_of_training(digits):
    """With or without averaging, the network is the same until the end. Then the two are close, but not equal."""
    last, _ = trained([digits[0]], digits[1], replace(RECIPE, average=0))
    mean, _ = trained([digits[0]], digits[1], replace(RECIPE, average=0.5))
    assert not torch.equal(weights(last), weights(mean))
    likeness = torch.corrcoef(torch.stack([weights(last), weights(mean)]))[0, 1]
    assert likeness > 0.9
