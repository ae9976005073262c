"""Each distortion has exactly its severity, and a seed repeats it."""

import numpy as np
import pytest

from model.canonical import canonical
from model.robustness import (
    CANVAS,
    DISTORTIONS,
    MARGIN,
    VIEWS,
    Point,
    bare,
    curves,
    distorted,
    points,
    product,
)
from tests.bundles import DIGITS

EVERY = [(name, severity) for name, known in DISTORTIONS.items() for severity in (known.none, *known.severities)]
IMAGES = np.tile(DIGITS, (5, 1, 1))
LABELS = np.tile(np.arange(10), 5).astype(np.uint8)


def middle(images):
    """Centre of mass of each, rows and columns."""
    total = images.sum(axis=(1, 2), dtype=float)
    places = np.arange(images.shape[1])
    return np.stack([images.sum(axis=2) @ places / total, images.sum(axis=1) @ places / total], axis=1)


@pytest.mark.parametrize(("name", "severity"), EVERY)
def test_the_same_seed_gives_the_same_pictures(name, severity):
    found = distorted(IMAGES, name, severity, seed=1)
    assert (found.shape, found.dtype) == ((len(IMAGES), CANVAS, CANVAS), np.uint8)
    assert np.array_equal(found, distorted(IMAGES, name, severity, seed=1))


@pytest.mark.parametrize("name", DISTORTIONS)
def test_only_the_severity_none_changes_nothing(name):
    known = DISTORTIONS[name]
    assert np.array_equal(bare(distorted(IMAGES, name, known.none, seed=0)), IMAGES)
    differences = []
    for severity in known.severities:
        found = distorted(IMAGES, name, severity, seed=0)
        differences.append(np.abs(bare(found).astype(int) - IMAGES).mean())
    assert min(differences) > 0


@pytest.mark.parametrize("by", DISTORTIONS["shift"].severities)
def test_a_shift_moves_by_its_severity_and_loses_no_pixel(by):
    images = np.zeros((200, 28, 28), np.uint8)
    images[:, 0, 0] = images[:, 27, 27] = 255
    found = distorted(images, "shift", by, seed=3)
    way = middle(found) - middle(images) - MARGIN
    assert np.array_equal(np.abs(way).max(axis=1), np.full(200, float(by)))
    assert (np.sort(found.reshape(200, -1))[:, -2:] == 255).all()
    assert {tuple(np.sign(step)) for step in way} >= {(1, 1), (1, -1), (-1, 1), (-1, -1)}


@pytest.mark.parametrize("by", DISTORTIONS["shift"].severities)
def test_a_shift_changes_nothing_in_the_product(by):
    still = product(distorted(IMAGES, "shift", 0, seed=0))
    assert np.array_equal(product(distorted(IMAGES, "shift", by, seed=0)), still)


def test_both_directions_of_a_rotation_are_equally_frequent_and_mirrored():
    line = np.zeros((400, 28, 28), np.uint8)
    line[:, 4:24, 13:15] = 255
    found = distorted(line, "rotation", 30, seed=0)
    top = found[:, 8:22].astype(float)
    across = (top.sum(axis=1) @ np.arange(CANVAS)) / top.sum(axis=(1, 2)) - (CANVAS - 1) / 2
    assert 0.4 < (across > 0).mean() < 0.6
    lean = 5 * np.tan(np.radians(30))  # the middle of the upper half is 5 pixels up
    assert np.abs(across) == pytest.approx(lean, rel=0.15)


@pytest.mark.parametrize("factor", DISTORTIONS["scale"].severities)
def test_a_scaled_digit_is_that_many_times_as_tall(factor):
    box = np.zeros((1, 28, 28), np.uint8)
    box[:, 4:24, 4:24] = 255
    [found] = distorted(box, "scale", factor, seed=0)
    assert found.sum() / 255 == pytest.approx(400 * factor**2, rel=0.05)


@pytest.mark.parametrize("by", DISTORTIONS["stroke"].severities)
def test_strokes_are_wider_by_the_severity(by):
    line = np.zeros((1, 28, 28), np.uint8)
    line[:, 4:24, 12:16] = 255
    [found] = distorted(line, "stroke", by, seed=0)
    assert found[CANVAS // 2].sum() / 255 == pytest.approx(4 + by, abs=0.01)


@pytest.mark.parametrize("sigma", DISTORTIONS["noise"].severities)
def test_noise_has_the_standard_deviation_of_the_severity(sigma):
    grey = np.full((20, 28, 28), 128, np.uint8)
    assert bare(distorted(grey, "noise", sigma, seed=0)).std() == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("sigma", DISTORTIONS["blur"].severities)
def test_blur_has_the_standard_deviation_of_the_severity(sigma):
    dot = np.zeros((1, 28, 28), np.uint8)
    dot[:, 12:16, 12:16] = 255
    [found] = distorted(dot, "blur", sigma, seed=0).astype(float)
    profile = found.sum(axis=0) / found.sum()
    spread = profile @ np.arange(CANVAS) ** 2 - (profile @ np.arange(CANVAS)) ** 2
    assert spread == pytest.approx(sigma**2 + (4**2 - 1) / 12, rel=0.15, abs=0.1)


@pytest.mark.parametrize("side", DISTORTIONS["occlusion"].severities)
def test_the_square_of_paper_has_the_side_of_the_severity(side):
    ink = np.full((50, 28, 28), 255, np.uint8)
    hidden = (bare(distorted(ink, "occlusion", side, seed=0)) == 0).sum(axis=(1, 2))
    assert hidden.max() == side**2
    assert hidden.min() > 0


@pytest.mark.parametrize("share", DISTORTIONS["contrast"].severities)
def test_contrast_is_reduced_to_the_severity_and_canonical_restores_it(share):
    found = distorted(IMAGES, "contrast", share, seed=0)
    levels = np.ptp(found.reshape(len(found), -1).astype(int), axis=1)
    assert levels == pytest.approx(255 * share, abs=1)
    still = product(distorted(IMAGES, "contrast", 1, seed=0)).astype(int)
    assert np.abs(product(found) - still).max() <= 255 / (255 * share)


def test_an_image_that_canonical_refuses_is_blank():
    canvases = distorted(IMAGES[:2], "shift", 4, seed=0)
    canvases[0] = 0
    seen = product(canvases)
    assert not seen[0].any()
    assert np.array_equal(seen[1], canonical(canvases[1]))


def test_a_curve_has_a_point_for_every_severity_and_view():
    def read(images):
        return (images.reshape(len(images), 1, -1) @ DIGITS.reshape(10, -1).T.astype(float)).argmax(axis=2)[:, 0]

    found = list(curves(IMAGES, LABELS, read, seed=0))
    assert len(found) == len({(p.distortion, p.view, p.severity) for p in found}) == points()
    for name, known in DISTORTIONS.items():
        for view in VIEWS:
            severities = [p.severity for p in found if (p.distortion, p.view) == (name, view)]
            assert severities == sorted((known.none, *known.severities))
    clean = {p.accuracy for p in found if p.view == "bare" and p.severity == DISTORTIONS[p.distortion].none}
    assert len(clean) == 1
    shifted = {p.accuracy for p in found if (p.distortion, p.view) == ("shift", "canonical")}
    assert len(shifted) == 1  # no change at all


def test_a_curve_has_the_accuracy_of_the_classifier():
    constant = list(curves(IMAGES, LABELS, lambda images: np.full(len(images), 3), seed=0, names=["blur"]))
    assert len(constant) == points(["blur"])
    assert {point.accuracy for point in constant} == {0.1}
    assert constant[0] == Point("blur", "bare", 0, 0.1)
