"""Every classifier of the line-up: its shapes, its size, that it learns, and that a seed repeats it."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from model.canonical import canonical
from model.networks import lineup
from model.networks.alexnet import AlexNet
from model.networks.cnn import parameters
from model.networks.lenet import SEEN, LeNet5
from model.networks.lineup import LINE_UP, OnPixels, Trained
from model.networks.vit import ViT

pytestmark = pytest.mark.slow

NETWORKS = {"lenet5": LeNet5, "alexnet": AlexNet, "vit": ViT}
ENOUGH = {
    "lenet5": 0.7,
    "alexnet": 0.4,
    "vit": 0.3,
    "cnn_plain": 0.75,
    "cnn": 0.75,
}  # after 5,000 images; chance is 0.1


@pytest.fixture(scope="module")
def digits():
    """400 of scikit-learn's digits to train on and 200 to test on, made canonical."""
    data = load_digits()
    images = np.stack([canonical((image * 15.9375).astype(np.uint8)) for image in data.images[:600]])
    labels = data.target[:600].astype(np.uint8)
    return images[:400], labels[:400], images[400:], labels[400:]


@pytest.fixture
def seeing(monkeypatch):
    """Limits the training of the networks to this number of images, instead of hundreds of thousands."""
    known = lineup._recipe

    def set_to(images_seen):
        monkeypatch.setattr(lineup, "_recipe", lambda _, rate, seed: known(images_seen, rate, seed))

    return set_to


def test_the_line_up_has_every_classifier_of_the_handbook():
    assert list(LINE_UP) == [
        "logistic_regression", "rbf_svm", "random_forest", "neocognitron", "lenet5", "alexnet", "vit",
        "cnn_plain", "cnn",
    ]  # fmt: skip
    assert all(1950 < entry.year < 2030 and entry.source for entry in LINE_UP.values())


@pytest.mark.parametrize("name", ["logistic_regression", "rbf_svm", "random_forest"])
def test_scikit_learns_classifiers_read_most_unseen_digits(name, digits):
    images, labels, unseen, truth = digits
    classifier = LINE_UP[name].build(0)
    assert isinstance(classifier, OnPixels)
    classifier.fit(images, labels)
    scores = classifier.scores(unseen)
    assert scores.shape == (len(unseen), 10)
    assert (scores.argmax(axis=1) == truth).mean() > 0.7  # of other writers


@pytest.mark.parametrize("name", ENOUGH)
def test_a_network_learns_within_seconds(name, digits, seeing):
    seeing(5_000)
    images, labels, unseen, truth = digits
    classifier = LINE_UP[name].build(0)
    assert isinstance(classifier, Trained)
    classifier.fit(images, labels)
    probabilities = classifier.scores(unseen)
    assert probabilities.shape == (len(unseen), 10)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert (probabilities.argmax(axis=1) == truth).mean() > ENOUGH[name]


def test_the_same_seed_trains_the_same_network_after_any_other_random_numbers(digits, seeing):
    seeing(1_280)
    images, labels, unseen, _ = digits
    outputs = []
    for seed in (1, 1, 2):
        torch.rand(3)
        classifier = LINE_UP["alexnet"].build(seed)  # it has dropout
        classifier.fit(images, labels)
        outputs.append(classifier.scores(unseen))
    assert np.array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_training_does_not_change_torchs_random_state(digits, seeing):
    seeing(1_280)
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    LINE_UP["lenet5"].build(0).fit(*digits[:2])
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("images", "classes"), [(1, 10), (5, 26)])
def test_each_image_becomes_one_logit_for_each_class(name, images, classes):
    assert NETWORKS[name](classes).eval()(torch.zeros(images, 1, 28, 28)).shape == (images, classes)


@pytest.mark.parametrize("name", ["rbf_svm", "neocognitron", "lenet5", "cnn"])
def test_a_classifier_has_as_many_classes_as_the_labels_it_learns_from(name, digits, seeing):
    seeing(128)
    images, labels, unseen, _ = digits
    classifier = LINE_UP[name].build(0)
    classifier.fit(images[labels < 4], labels[labels < 4])
    assert classifier.scores(unseen[:3]).shape == (3, 4)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_milestones_are_small(name):
    assert parameters(NETWORKS[name]()) <= 200_000


def test_lenets_c3_is_connected_as_in_table_i():
    assert [len(row) for row in SEEN] == [3] * 6 + [4] * 9 + [6]
    assert [sum(i in row for row in SEEN) for i in range(6)] == [10] * 6
    c3 = LeNet5().layers[4]
    dead = c3.seen[:, :, 0, 0] == 0
    assert (c3.weight[dead] == 0).all()
    assert int((c3.seen * torch.ones_like(c3.weight)).sum()) + len(SEEN) == 1516  # section II of the paper counts them


def test_the_transformer_knows_the_place_of_a_patch_only_from_its_learnt_position():
    network = ViT().eval()
    image = torch.zeros(1, 1, 28, 28)
    image[:, :, :14, :14] = torch.rand(14, 14)
    moved = image.roll((14, 14), (2, 3))
    with torch.no_grad():
        assert not torch.allclose(network(image), network(moved), atol=1e-4)
        network.position[:, 1:] = 0
        assert torch.allclose(network(image), network(moved), atol=1e-5)
