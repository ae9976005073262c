"""The statistics of a prediction are what their names say."""

import hashlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from model.statistics import FEATURES, NAMES, measure, thickness, ties
from tests.bundles import DIGITS


def stroke(width, *, slanted=False):
    image = Image.new("L", (280, 280))
    ends = (80, 40, 200, 240) if slanted else (140, 30, 140, 250)
    ImageDraw.Draw(image).line(ends, fill=255, width=10 * width)
    return np.asarray(image.resize((28, 28), Image.Resampling.BOX))


def measured(probabilities, pixels=DIGITS):
    probabilities = np.asarray(probabilities, np.float32)
    features = np.arange(FEATURES * len(probabilities), dtype=np.float32).reshape(-1, FEATURES)
    return measure(probabilities, pixels[: len(probabilities)], features)


def test_each_statistic_has_its_column():
    [row] = measured([[0.1, 0.6, 0.3]])
    assert dict(zip(NAMES, row, strict=True)) == {
        "class": 1,
        "confidence": pytest.approx(0.6),
        "margin": pytest.approx(np.log(2)),
        "ink": pytest.approx(DIGITS[0].mean() / 255),
        "thickness": pytest.approx(thickness(DIGITS[:1])[0]),
        "feature 1": 0, "feature 2": 1, "feature 3": 2, "feature 4": 3,
    }  # fmt: skip


def test_the_margin_differs_where_the_confidence_rounds_to_1():
    rows = measured([[1, 1e-12, 0], [1, 1e-20, 0], [1, 0, 0]])
    assert set(rows[:, NAMES.index("confidence")]) == {1.0}
    margins = rows[:, NAMES.index("margin")]
    assert np.isfinite(margins).all()
    assert margins[0] < margins[1] < margins[2]


def test_confidences_that_differ_by_rounding_are_equal():
    """ONNX Runtime gives other last bits to one image alone than to the same image among others."""
    rows = measured([[1, 0, 0], [1 - 2**-23, 0, 0], [1 - 1e-4, 0, 0]])
    assert rows[:, NAMES.index("confidence")].tolist() == [1.0, 1.0, 0.9999]


def test_one_class_has_a_margin_too():
    assert np.isfinite(measured([[1.0]])).all()


@pytest.mark.parametrize("slanted", [False, True])
def test_thickness_is_the_width_of_a_stroke(slanted):
    found = thickness(np.stack([stroke(width, slanted=slanted) for width in (1, 2, 3, 4, 5)]))
    assert (np.diff(found) > 0.2).all()
    assert found[1:4] == pytest.approx([2, 3, 4], rel=0.15)  # the stroke's two ends count as outline, too


def test_thickness_does_not_depend_on_the_place_nor_on_the_other_images():
    images = np.concatenate([DIGITS] * 8)[:, ::-1]  # more than are measured at a time
    assert np.array_equal(thickness(images), np.concatenate([thickness(image[None]) for image in images]))
    moved = np.roll(DIGITS[:7], (1, -1), axis=(1, 2))
    assert thickness(moved) == pytest.approx(thickness(DIGITS[:7]))


def test_ink_at_the_border_and_no_ink_have_a_thickness():
    assert thickness(np.zeros((1, 28, 28), np.uint8)).tolist() == [0]
    assert thickness(np.full((1, 28, 28), 255, np.uint8))[0] == pytest.approx(14, rel=0.02)  # 28 wide and 28 long
    assert 1 < thickness(np.eye(28, dtype=np.uint8)[None])[0] < 1.5


def test_ties_are_uniform_and_independent():
    found = ties([f"{number:032x}" for number in range(20_000)])
    assert found.shape == (20_000, len(NAMES))
    assert found.min() >= 0
    assert found.max() < 1
    counts = np.stack([np.histogram(column, bins=20, range=(0, 1))[0] for column in found.T])
    assert (((counts - 1000) ** 2 / 1000).sum(axis=1) < 45).all()  # chi-square, 19 degrees: P(> 45) = 0.0007
    assert np.abs(np.corrcoef(found.T) - np.eye(len(NAMES))).max() < 0.03


def test_ties_depend_on_the_id_alone():
    assert np.array_equal(ties(["a", "b", "c"])[1], ties(["b"])[0])
    first = int.from_bytes(hashlib.blake2b(b"b", digest_size=36).digest()[:4], "little")
    assert ties(["b"])[0, 0] == first / 2**32
    assert ties([]).shape == (0, len(NAMES))
