"""Synthetic images: their numbers, splits and seeds."""

import os

import numpy as np
import pytest

from model.labels import NO_DIGIT
from pipelines.artefacts import Split
from pipelines.synthesize import SynthesizeParams, sheet, synthesize

FEW = SynthesizeParams(digits=1_100, outliers=30, validation=40, seed=0)


@pytest.fixture(scope="module")
def synthetic():
    return synthesize(FEW)


def test_there_are_as_many_as_asked_for_and_none_to_test_on(synthetic):
    digits = synthetic.labels != NO_DIGIT
    assert (digits & (synthetic.splits == Split.TRAIN)).sum() == 1_100
    assert (digits & (synthetic.splits == Split.VALIDATION)).sum() == 40
    assert 28 <= (~digits & (synthetic.splits == Split.TRAIN)).sum() <= 30  # canonical refuses a few
    assert not (synthetic.splits == Split.TEST).any()


def test_no_two_images_are_alike(synthetic):
    assert len({image.tobytes() for image in synthetic.images}) == len(synthetic.images)


def test_the_number_of_cores_changes_nothing(synthetic, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    again = synthesize(FEW)
    assert np.array_equal(again.images, synthetic.images)
    assert np.array_equal(again.labels, synthetic.labels)


def test_no_synthetic_images_are_allowed():
    nothing = synthesize(SynthesizeParams(digits=0, outliers=0, validation=0, seed=0))
    assert nothing.images.shape == (0, 28, 28)


def test_the_sheet_has_a_band_for_each_digit_and_one_for_outliers(synthetic):
    assert sheet(synthetic, columns=10, rows=2).size == (280, 11 * 2 * 28)
