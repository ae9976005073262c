"""What the project draws for itself, as a stage."""

import os

import numpy as np
import pytest

from model.labels import NO_DIGIT
from pipelines.prepare import Split
from pipelines.synthesize import SynthesizeParams, sheet, synthesize

FEW = SynthesizeParams(digits=1_100, outliers=30, validation=40, seed=0)


@pytest.fixture(scope="module")
def drawn():
    return synthesize(FEW)


def test_there_is_as_much_as_was_asked_for_and_nothing_to_test_on(drawn):
    digits = drawn.labels != NO_DIGIT
    assert (digits & (drawn.splits == Split.TRAIN)).sum() == 1_100
    assert (digits & (drawn.splits == Split.VALIDATION)).sum() == 40
    assert 28 <= (~digits & (drawn.splits == Split.TRAIN)).sum() <= 30  # canonical refuses a few
    assert not (drawn.splits == Split.TEST).any()


def test_no_two_images_are_alike(drawn):
    assert len({image.tobytes() for image in drawn.images}) == len(drawn.images)


def test_the_number_of_cores_changes_nothing(drawn, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    again = synthesize(FEW)
    assert np.array_equal(again.images, drawn.images)
    assert np.array_equal(again.labels, drawn.labels)


def test_without_any_there_is_an_empty_file():
    nothing = synthesize(SynthesizeParams(digits=0, outliers=0, validation=0, seed=0))
    assert nothing.images.shape == (0, 28, 28)


def test_the_sheet_has_a_band_for_each_digit_and_one_for_outliers(drawn):
    assert sheet(drawn, columns=10, rows=2).size == (280, 11 * 2 * 28)
