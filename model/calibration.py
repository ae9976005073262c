"""Calibration: reliable probabilities from logits, and the confidence below which the classifier abstains."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

Floats: TypeAlias = NDArray[np.floating]
Labels: TypeAlias = NDArray[np.integer]


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """The temperature T for which softmax(logits / T) has the least cross-entropy on `labels` (Guo et al. 2017).

    `logits` are n x 10, `labels` n. Returns 1 if every image is read rightly: then the cross-entropy only falls as T
    approaches 0, and the data give no best T.
    """
    if np.array_equal(logits.argmax(axis=1), labels):
        return 1.0

    def cross_entropy(log_t: float) -> float:
        scores: Floats = log_softmax(logits / np.exp(log_t), axis=1)
        return float(-scores[np.arange(len(labels)), labels].mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(np.log(0.1), np.log(10)), method="bounded").x))


def expected_calibration_error(probabilities: Floats, labels: Labels, bins: int = 15) -> float:
    """The mean gap between confidence and accuracy over `bins` equal bins of confidence, weighted by their counts."""
    in_bins = reliability(probabilities, labels, bins)
    return sum(abs(confidence - accuracy) * count for confidence, accuracy, count in in_bins) / len(labels)


def abstain_threshold(probabilities: Floats, coverage: float) -> float:
    """The confidence that a share `coverage` of n x 10 predictions reaches. Below it the classifier abstains."""
    return float(np.quantile(probabilities.max(axis=1), 1 - coverage, method="lower"))


@dataclass(frozen=True)
class Trade:
    """One possible threshold. The more images the classifier abstains from, the more of its answers are right."""

    threshold: float
    coverage: float  # share of the images that get an answer
    accuracy: float  # of the answers


def trades(probabilities: Floats, labels: Labels, most: int = 200) -> list[Trade]:
    """The coverage/accuracy curve of n x 10 probabilities, in at most `most` points, from full coverage downwards."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    accuracy = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last_of_its_confidence = np.flatnonzero(np.diff(confidence[order], append=-1))
    kept = np.unique(np.linspace(0, len(last_of_its_confidence) - 1, most).round().astype(int))[::-1]
    return [
        Trade(float(confidence[order[at]]), (int(at) + 1) / len(order), float(accuracy[at]))
        for at in last_of_its_confidence[kept]
    ]


def reliability(probabilities: Floats, labels: Labels, bins: int) -> list[tuple[float, float, int]]:
    """(mean confidence, accuracy, count) of each bin that is not empty; `bins` equal bins divide the confidence."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    inside = [which == b for b in range(bins)]
    return [(float(confidence[i].mean()), float(right[i].mean()), int(i.sum())) for i in inside if i.any()]
