"""Pictures without a digit."""

import numpy as np
import pytest

from model.labels import DIGITS
from model.synthetic.outliers import KINDS, LETTERS, seen, taught
from model.synthetic.styles import SIGNS


def test_pictures_to_learn_from_are_canonical_and_labelled_as_no_digit():
    images, labels = taught(60, seed=3)
    assert 57 <= len(images) == len(labels) <= 60  # canonical refuses a few
    assert images.shape[1:] == (28, 28)
    assert images.dtype == np.uint8
    assert set(labels.tolist()) == {10}  # the number of classes
    assert set(images.max(axis=(1, 2)).tolist()) == {255}


def test_no_letter_is_taught_as_an_outlier_if_classes_are_letters():
    """A sign may be one of the letters, so all pictures are scribbles. A scribble depends on the seed alone."""
    images, labels = taught(12, seed=3, classes=("A", "B"))
    assert set(labels.tolist()) == {2}
    assert not {image.tobytes() for image in images} & {image.tobytes() for image in taught(12, seed=3)[0]}
    assert np.array_equal(taught(12, seed=3, classes=DIGITS[:3])[0], taught(12, seed=3)[0])


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
