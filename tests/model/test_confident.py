"""Confident learning, beside cleanlab."""

import numpy as np
import pytest

from model.confident import confident_classes, thresholds

CLASSES = 5


def noisy(seed, *, count=400, flipped=0.1, missing=()):
    """(labels, probabilities): a calibrated model's probabilities; a share of the labels is drawn anew."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(CLASSES, 0.2), count).astype(np.float32)
    labels = np.array([rng.choice(CLASSES, p=row / row.sum()) for row in probabilities.astype(np.float64)])
    wrong = rng.random(count) < flipped
    labels[wrong] = rng.integers(0, CLASSES, wrong.sum())
    kept = ~np.isin(labels, missing)
    return labels[kept], probabilities[kept]


@pytest.mark.parametrize("missing", [(), (2,), (0, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_the_labels_that_look_wrong_are_cleanlabs(seed, missing):
    from cleanlab.count import compute_confident_joint

    labels, probabilities = noisy(seed, missing=missing)
    _, [*theirs] = compute_confident_joint(labels, probabilities, calibrate=False, return_indices_of_off_diagonals=True)
    ours = np.flatnonzero(confident_classes(labels, probabilities) != labels)
    assert len(ours) > 10
    assert ours.tolist() == sorted(theirs)


def test_a_class_without_a_label_is_nobodys():
    labels, probabilities = noisy(0, missing=(2,))
    assert thresholds(labels, probabilities)[2] == np.inf
    assert 2 not in confident_classes(labels, probabilities)


def test_a_label_looks_wrong_where_another_class_reaches_its_threshold():
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.81, 0.19], [0.6, 0.4]])
    labels = np.array([0, 0, 1, 1, 1])
    assert thresholds(labels, probabilities).tolist() == pytest.approx([0.8, (0.8 + 0.19 + 0.4) / 3])
    assert confident_classes(labels, probabilities).tolist() == [0, 0, 1, 0, 1]


def test_nothing_looks_wrong_among_no_labels():
    assert confident_classes(np.empty(0, np.int64), np.empty((0, 3))).tolist() == []
