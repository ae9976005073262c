"""Pictures without a digit."""

import numpy as np
import pytest

from model.labels import NO_DIGIT
from model.synthetic.outliers import KINDS, LETTERS, seen, taught
from model.synthetic.styles import SIGNS


def test_pictures_to_learn_from_are_canonical_and_labelled_as_no_digit():
    images, labels = taught(60, seed=3)
    assert 57 <= len(images) == len(labels) <= 60  # canonical refuses a few
    assert images.shape[1:] == (28, 28)
    assert images.dtype == np.uint8
    assert set(labels.tolist()) == {NO_DIGIT}
    assert set(images.max(axis=(1, 2)).tolist()) == {255}


def test_equal_seeds_give_equal_pictures_to_learn_from():
    assert np.array_equal(taught(30, seed=1)[0], taught(30, seed=1)[0])
    assert not np.array_equal(taught(30, seed=1)[0], taught(30, seed=2)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_to_test_with_depend_on_the_seed_alone(kind):
    ours, again, others = (KINDS[kind](8, seed) for seed in (0, 0, 1))
    assert len(ours) == 8
    assert all(np.array_equal(a, b) for a, b in zip(ours, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(ours, others, strict=True))


def test_a_picture_that_canonical_refuses_counts_as_refused():
    blank = np.full((20, 20), 255, np.uint8)
    pixels, refused = seen([*KINDS["letters"](3, 0), blank])
    assert (pixels.shape, refused) == ((3, 28, 28), 1)
    assert seen([blank])[0].shape == (0, 28, 28)


def test_no_letter_that_looks_like_a_digit_is_used():
    lookalikes = set("BDGIJOQSZbgijloqsyz")
    assert not lookalikes & set(LETTERS)
    assert not lookalikes & {sign.name for sign in SIGNS}
