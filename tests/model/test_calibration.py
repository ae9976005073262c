"""Probabilities one can believe."""

import numpy as np
import pytest
from scipy.special import softmax

from model.calibration import abstain_threshold, expected_calibration_error, fit_temperature

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true_temperature):
    logits = RNG.normal(0, 3, (20_000, 10))
    labels = np.array([RNG.choice(10, p=p) for p in softmax(logits / true_temperature, axis=1)])
    assert fit_temperature(logits, labels) == pytest.approx(true_temperature, rel=0.05)


def test_without_an_error_nothing_is_sharpened():
    assert fit_temperature(np.eye(10), np.arange(10)) == 1.0


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    sure = np.full((1000, 10), 0.2 / 9)
    sure[:, 3] = 0.8
    labels = np.where(np.arange(1000) < 500, 3, 4)
    assert expected_calibration_error(sure, labels) == pytest.approx(0.3)


def test_the_threshold_leaves_the_coverage_asked_for():
    probabilities = softmax(RNG.normal(0, 2, (1000, 10)), axis=1)
    threshold = abstain_threshold(probabilities, 0.9)
    assert (probabilities.max(axis=1) >= threshold).mean() == pytest.approx(0.9, abs=0.002)
    assert abstain_threshold(probabilities, 1.0) == probabilities.max(axis=1).min()
