"""The project's own digits."""

import numpy as np
import pytest

from model.synthetic import STROKES, curve, draw


def test_there_is_a_drawing_of_every_digit():
    assert sorted(STROKES) == list(range(10))


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_has_the_size_and_place_asked_for(digit):
    ink = draw(digit, size=40, pen=0.1, canvas=(200, 100), at=(0.25, 0.5))
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    assert ink.shape == (100, 200)
    assert 38 <= rows[-1] - rows[0] + 1 <= 46
    assert columns[0] >= 20
    assert columns[-1] <= 75


def test_a_curve_passes_its_points_and_keeps_its_corners():
    points = [(0.0, 0.0), (0.5, 1.0), (0.5, 1.0), (1.0, 0.0)]
    found = curve(points)
    for point in points:
        assert np.abs(found - point).sum(axis=1).min() < 1e-9
    assert np.allclose(found[:24, 1], found[:24, 0] * 2)  # straight up to the corner
