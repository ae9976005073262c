"""Calibration: the temperature, the threshold, and the curves."""

import numpy as np
import pytest
from scipy.special import softmax

from model.calibration import abstain_threshold, expected_calibration_error, fit_temperature, reliability, trades

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(true_temperature):
    logits = RNG.normal(0, 3, (20_000, 10))
    labels = np.array([RNG.choice(10, p=p) for p in softmax(logits / true_temperature, axis=1)])
    assert fit_temperature(logits, labels) == pytest.approx(true_temperature, rel=0.05)


def test_without_an_error_the_temperature_is_1():
    assert fit_temperature(np.eye(10), np.arange(10)) == 1.0


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    sure = np.full((1000, 10), 0.2 / 9)
    sure[:, 3] = 0.8
    labels = np.where(np.arange(1000) < 500, 3, 4)
    assert expected_calibration_error(sure, labels) == pytest.approx(0.3)


def test_the_threshold_gives_the_coverage_asked_for():
    probabilities = softmax(RNG.normal(0, 2, (1000, 10)), axis=1)
    threshold = abstain_threshold(probabilities, 0.9)
    assert (probabilities.max(axis=1) >= threshold).mean() == pytest.approx(0.9, abs=0.002)
    assert abstain_threshold(probabilities, 1.0) == probabilities.max(axis=1).min()


def test_the_coverage_curve_has_coverage_and_accuracy_of_each_threshold():
    confidence, right = np.array([0.9, 0.8, 0.8, 0.6, 0.4]), np.array([1, 1, 0, 1, 0])
    probabilities = np.stack([confidence, 1 - confidence, *np.zeros((8, 5))], axis=1)
    probabilities[4] = [0.4, 0.3, 0.3, *[0] * 7]
    found = [(t.threshold, t.coverage, t.accuracy) for t in trades(probabilities, 1 - right)]
    assert found == [
        (0.4, 1.0, pytest.approx(3 / 5)),
        (0.6, 0.8, pytest.approx(3 / 4)),
        (0.8, 0.6, pytest.approx(2 / 3)),
        (0.9, 0.2, 1.0),
    ]


def test_the_curve_is_thinned_but_keeps_its_ends():
    probabilities = softmax(RNG.normal(0, 2, (1000, 10)), axis=1)
    found = trades(probabilities, np.zeros(1000, int), most=50)
    assert len(found) == 50
    assert found[0].coverage == 1.0
    assert found[-1].coverage == 1 / 1000


def test_reliability_counts_every_image_once():
    probabilities = softmax(RNG.normal(0, 2, (1000, 10)), axis=1)
    assert sum(count for _, _, count in reliability(probabilities, np.zeros(1000, int), 15)) == 1000
