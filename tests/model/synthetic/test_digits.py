"""Synthetic digits: their size and place, their variation, and that seeds repeat them."""

import numpy as np
import pytest

from model.canonical import canonical
from model.synthetic import Hand, draw, write, written
from model.synthetic.styles import STYLES

STEADY = Hand(
    jitter=0,
    lift=0,
    short=0,
    swell=0,
    bend=0,
    aspect=0,
    slant=(0, 0),
    rotation=0,
    pen=(0.1, 0.1),
    pressure=0,
    bilevel=0,
)


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_has_the_size_and_place_asked_for(digit):
    ink = draw(digit, size=40, pen=0.1, canvas=(200, 100), at=(0.25, 0.5))
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    assert ink.shape == (100, 200)
    assert 38 <= rows[-1] - rows[0] + 1 <= 46
    assert columns[0] >= 20
    assert columns[-1] <= 75


def test_the_pen_is_as_wide_as_asked_for():
    bar = draw(1, size=60, pen=0.2, canvas=(100, 100))
    assert bar[50].sum() == pytest.approx(12, abs=0.2)
    assert (bar[50] == 1).sum() in (10, 11, 12)  # the edges fade


def test_equal_seeds_give_equal_digits_after_any_other_call():
    images, digits = write(40, seed=5)
    write(10, seed=6)
    again, same = write(40, seed=5)
    assert np.array_equal(images, again)
    assert np.array_equal(digits, same)
    assert not np.array_equal(write(40, seed=6)[0], images)


def test_synthetic_digits_are_canonical_and_of_every_class():
    images, digits = write(400, seed=0)
    assert images.shape == (400, 28, 28)
    assert images.dtype == np.uint8
    assert set(digits.tolist()) == set(range(10))
    assert images.reshape(400, -1).max(axis=1).min() == 255
    assert len({image.tobytes() for image in images}) == 400


def test_a_hand_without_variation_writes_more_alike_than_one_with_it():
    def likeness(hand):
        pictures = [picture for _, picture in written(STYLES[2][0], 12, hand, np.random.default_rng(0))]
        seen = np.array([canonical(picture) for picture in pictures], float).reshape(12, -1)
        return np.corrcoef(seen).mean()

    assert likeness(STEADY) > likeness(Hand()) + 0.2  # not 1, because the sizes differ


def test_corners_stay_corners_and_the_pen_lifts():
    four = draw(4, size=80, pen=0.04, canvas=(100, 100))  # closed: its bar ends to the right of its stem
    assert four[10 + 53, 10 + 9] > 0.9  # the corner at 12,66 of the box, a pen's width in
    assert four[80, 30] == 0
