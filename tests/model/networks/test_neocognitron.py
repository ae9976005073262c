"""The properties of a Neocognitron: thresholds, silence, blur, and no parameters for a gradient."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from model.canonical import canonical
from model.networks.neocognitron import (
    C,
    Contrast,
    InterpolatingVectors,
    Neocognitron,
    S,
    add_if_silent,
    edges,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def digits():
    """300 of scikit-learn's digits to learn from and 200 to test on, made canonical."""
    data = load_digits()
    images = np.stack([canonical((image * 15.9375).astype(np.uint8)) for image in data.images[:500]])
    labels = data.target[:500].astype(np.uint8)
    return images[:300], labels[:300], images[300:], labels[300:]


@pytest.fixture(scope="module")
def learnt(digits):
    network = Neocognitron(seed=0)
    network.fit(*digits[:2])
    return network


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_it_reads_most_unseen_digits(learnt, digits):
    *_, unseen, truth = digits
    scores = learnt.scores(unseen)
    assert scores.shape == (len(unseen), 10)
    assert 0 <= scores.min() <= scores.max() <= 1 + 1e-5
    assert (scores.argmax(axis=1) == truth).mean() > 0.8  # of other writers; 89 % when this was written


def test_it_has_no_parameters_for_a_gradient(learnt):
    assert list(learnt.layers.parameters()) == []
    assert not any(value.requires_grad for value in learnt.layers.buffers())


def test_the_same_seed_learns_the_same(learnt, digits):
    again = Neocognitron(seed=0)
    again.fit(*digits[:2])
    assert np.array_equal(again.scores(digits[2]), learnt.scores(digits[2]))


def test_the_other_images_of_a_batch_do_not_change_an_answer(learnt, digits):
    assert np.allclose(learnt.scores(digits[2])[7:8], learnt.scores(digits[2][7:8]), atol=1e-5)


@pytest.mark.parametrize("theta", [0.3, 0.5, 0.8])
def test_an_s_cell_gives_0_below_its_threshold_and_1_at_its_template(theta):
    templates = torch.rand(4, 3, 3, 3, generator=generator())
    outputs = S(templates, theta)(templates)  # each template as a 3x3 image: in its middle the patch is the template
    assert outputs.min() >= 0
    assert outputs.max() <= 1
    at_own = outputs[range(4), range(4), 1, 1]
    assert torch.allclose(at_own, torch.ones(4), atol=1e-5)
    fully_open = S(templates, 0.0)(templates)
    expected = ((fully_open - theta) / (1 - theta)).clamp(min=0)
    assert torch.allclose(outputs, expected, atol=1e-5)
    assert (outputs[fully_open < theta] == 0).all()


def test_the_brightness_of_a_patch_does_not_change_an_s_cell():
    layer, patch = S(torch.rand(2, 3, 3, 3, generator=generator()), 0.2), torch.rand(1, 3, 9, 9, generator=generator(1))
    assert torch.allclose(layer(patch), layer(patch * 7), atol=1e-5)
    assert (layer(torch.zeros(1, 3, 9, 9)) == 0).all()


@pytest.mark.parametrize("k", range(16))
def test_an_edge_extracting_cell_prefers_its_own_orientation(k):
    templates = edges()
    layer = S(templates, 0.0)
    outputs = layer(templates[k : k + 1])[0, :, 2, 2]
    assert int(outputs.argmax()) == k
    assert outputs[(k + 8) % 16] < 0.5  # the same line, dark and bright exchanged


def test_a_c_cell_changes_less_than_the_s_cells_before_it_when_a_digit_moves_by_a_pixel(digits):
    images = torch.from_numpy(digits[0][:50]).unsqueeze(1).float() / 255
    s, c = torch.nn.Sequential(Contrast(), S(edges(), 0.6)), C()

    def change(before, after):
        return float((before - after).norm() / before.norm())

    here, there = s(images), s(images.roll(1, 3))
    assert change(c(here), c(there)) < 0.5 * change(here, there)


def test_c_cells_saturate_and_halve_the_side():
    layer = C()
    x = torch.rand(2, 5, 16, 16, generator=generator())
    assert layer(x).shape == (2, 5, 8, 8)
    assert torch.allclose(layer(4 * x), 2 * layer(x), atol=1e-5)


def test_a_template_is_added_only_if_every_cell_is_silent():
    x = torch.rand(20, 4, 6, 6, generator=generator())
    theta = 0.9
    templates = add_if_silent(x, theta, 1000, generator())
    assert 1 < len(templates) < 20 * 36
    assert (S(templates, theta - 1e-5)(x).amax(dim=1) > 0).all()  # every patch that it has seen makes some cell answer
    responses = S(templates, theta)(templates)[:, :, 1, 1]  # of each cell to each template
    assert torch.allclose(responses.diagonal(), torch.ones(len(templates)), atol=1e-4)
    assert (responses - responses.diagonal().diag() <= 1e-5).all()  # and silent for all others


def test_templates_are_limited_and_blank_paper_gives_none():
    x = torch.rand(20, 4, 6, 6, generator=generator())
    assert len(add_if_silent(x, 0.99, 7, generator())) == 7
    assert len(add_if_silent(torch.zeros(3, 4, 6, 6), 0.9, 7, generator())) == 0


def test_a_vector_between_two_references_has_the_greatest_possible_score():
    references = torch.eye(3)  # 0 is on the plane of the first two, 1 is the third
    top = InterpolatingVectors(references, torch.tensor([0, 0, 1]), classes=3)
    scores = top.scores(torch.tensor([[1.0, 1.0, 0.0], [1.0, -1.0, 0.5]]))
    assert torch.allclose(scores[0], torch.tensor([1.0, 0.0, 0.0]), atol=1e-5)
    assert torch.allclose(scores[1, 0], torch.tensor(1 / 1.5), atol=1e-5)  # not beyond its nearest reference
