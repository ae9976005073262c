"""From logits to probabilities one can believe, and to the confidence below which the classifier abstains."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

Floats: TypeAlias = NDArray[np.floating]
Labels: TypeAlias = NDArray[np.integer]


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The T for which softmax(logits / T) has the least cross-entropy on `labels` (Guo et al. 2017).

    `logits` n x 10, `labels` n. 1 where every image is read rightly: then any sharpening lowers the cross-entropy, down
    to T = 0, and nothing in the data says where to stop.
    """
    if np.array_equal(logits.argmax(axis=1), labels):
        return 1.0

    def cross_entropy(log_t: float) -> float:
        scores: Floats = log_softmax(logits / np.exp(log_t), axis=1)
        return float(-scores[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(np.log(0.1), np.log(10)), method="bounded").x))


def expected_calibration_error(probabilities: Floats, labels: Labels, bins: int = 15) -> float:
    """The mean gap between confidence and accuracy over `bins` equal bins of confidence, weighted by their counts."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(confidence[which == b].mean() - right[which == b].mean()) * (which == b).mean() for b in set(which)]
    return float(sum(gaps))


def abstain_threshold(probabilities: Floats, coverage: float) -> float:
    """The confidence that the share `coverage` of n x 10 predictions reaches; below it the classifier abstains."""
    return float(np.quantile(probabilities.max(axis=1), 1 - coverage, method="lower"))
