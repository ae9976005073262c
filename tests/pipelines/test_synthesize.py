"""Synthetic images: their numbers, splits and seeds."""

import os

import numpy as np
import pytest

from model.labels import DIGITS
from pipelines.artefacts import Split
from pipelines.stage import StageError
from pipelines.synthesize import SynthesizeParams, sheet, synthesize

pytestmark = pytest.mark.slow

FEW = SynthesizeParams(digits=1_100, outliers=30, validation=40, seed=0, without=())


@pytest.fixture(scope="module")
def synthetic():
    return synthesize(FEW, DIGITS)


def test_there_are_as_many_as_asked_for_and_none_to_test_on(synthetic):
    digits = synthetic.labels < 10
    assert (digits & (synthetic.splits == Split.TRAIN)).sum() == 1_100
    assert (digits & (synthetic.splits == Split.VALIDATION)).sum() == 40
    assert 28 <= (~digits & (synthetic.splits == Split.TRAIN)).sum() <= 30  # canonical refuses a few
    assert not (synthetic.splits == Split.TEST).any()


def test_no_two_images_are_alike(synthetic):
    assert len({image.tobytes() for image in synthetic.images}) == len(synthetic.images)


def test_the_number_of_cores_changes_nothing(synthetic, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    again = synthesize(FEW, DIGITS)
    assert np.array_equal(again.images, synthetic.images)
    assert np.array_equal(again.labels, synthetic.labels)


def test_no_synthetic_images_are_allowed():
    nothing = synthesize(SynthesizeParams(digits=0, outliers=0, validation=0, seed=0, without=()), DIGITS)
    assert nothing.images.shape == (0, 28, 28)
    assert sheet(nothing, columns=10, rows=2).size == (280, 2 * 28)


@pytest.mark.parametrize("counts", [{"digits": 5, "validation": 0}, {"digits": 0, "validation": 5}])
def test_classes_without_a_style_are_refused(counts):
    with pytest.raises(StageError) as refusal:
        synthesize(SynthesizeParams(outliers=0, seed=0, without=(), **counts), ("1", "A", "B"))
    assert str(refusal.value) == (
        "there are styles for digits, not for A, B; set synthesize.digits and synthesize.validation to 0"
    )


def test_outliers_are_made_for_any_classes():
    found = synthesize(SynthesizeParams(digits=0, outliers=30, validation=0, seed=0, without=()), ("A", "B", "C"))
    assert set(found.labels.tolist()) == {3}
    assert found.classes == ("A", "B", "C")


def test_some_of_the_digits_are_written_with_their_own_labels():
    some = synthesize(SynthesizeParams(digits=60, outliers=0, validation=0, seed=0, without=()), ("1", "7", "0"))
    assert set(some.labels.tolist()) == {0, 1, 2}
    zeros, ones = some.images[some.labels == 2], some.images[some.labels == 0]
    assert (zeros[:, 14, 14] < 128).mean() > 0.7  # a zero is open in the middle, a one is not
    assert (ones[:, 14, 10:19].max(axis=1) > 128).mean() > 0.7


def test_the_sheet_has_a_band_for_each_digit_and_one_for_outliers(synthetic):
    assert sheet(synthetic, columns=10, rows=2).size == (280, 11 * 2 * 28)
