"""Ink is separated from paper: ink is bright, paper is 0."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.canonical.images import NoInk
from model.canonical.paper import flattened
from model.synthetic import draw

SHARE = np.asarray(draw(5, size=70, pen=0.1, canvas=(160, 120)))
INK, PAPER = SHARE > 0.95, SHARE < 0.01


@settings(max_examples=30)
@given(
    turn=st.floats(0, 6.28),
    darkest=st.floats(0.45, 1),
    ink=st.integers(0, 90),
    grain=st.floats(0, 4),
    light=st.booleans(),
)
def test_ink_is_bright_and_paper_is_not_in_any_light(turn, darkest, ink, grain, light):
    y, x = np.meshgrid(np.linspace(-0.5, 0.5, 120), np.linspace(-0.5, 0.5, 160), indexing="ij")
    lit = 1 - (1 - darkest) * (0.5 + (np.cos(turn) * y + np.sin(turn) * x) / np.sqrt(2))
    page = (230 - (230 - ink) * SHARE) * lit + np.random.default_rng(0).normal(0, grain, SHARE.shape)
    levels = np.rint(page).clip(0, 255).astype(np.uint8)
    seen = flattened(255 - levels if light else levels)
    assert np.median(seen[INK]) > 200
    assert (seen[PAPER] > 32).mean() < 0.002


def test_the_edge_of_a_shadow_is_not_ink():
    page = 230 - 180 * SHARE
    page[:, 60:] *= 0.6
    seen = flattened(np.rint(page).astype(np.uint8))
    assert np.median(seen[INK]) > 200
    assert (seen[PAPER] > 32).mean() < 0.01


def test_pale_lines_are_not_ink():
    page = np.full(SHARE.shape, 235.0)
    page[::20] = page[:, ::20] = 185
    seen = flattened(np.rint(page * (1 - SHARE) + 40 * SHARE).astype(np.uint8))
    assert np.median(seen[INK]) > 200
    assert (seen[PAPER] > 32).mean() < 0.01


@pytest.mark.parametrize("deviation", [0.5, 3, 8, 20])
def test_grain_alone_is_refused(deviation):
    page = np.random.default_rng(0).normal(180, deviation, (200, 240)).clip(0, 255).astype(np.uint8)
    with pytest.raises(NoInk, match="nothing stands out from the paper"):
        flattened(page)


def test_light_alone_is_refused():
    page = np.rint(np.linspace(90, 220, 240)[None].repeat(200, 0)).astype(np.uint8)
    with pytest.raises(NoInk, match="nothing stands out from the paper"):
        flattened(page)
