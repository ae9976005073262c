"""The baselines can read digits."""

import numpy as np
import pytest

from model.networks.baselines import baselines
from tests.bundles import DIGITS


@pytest.mark.parametrize("name", ["logistic_regression", "rbf_svm"])
def test_a_baseline_learns_synthetic_digits(name):
    labels = np.tile(np.arange(10), 5).astype(np.uint8)
    images = np.tile(DIGITS, (5, 1, 1))
    classifier = baselines(seed=0)[name].fit(images, labels)
    assert (classifier.predict(DIGITS) == np.arange(10)).all()
