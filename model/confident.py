"""Confident learning: which labels look wrong, by the probabilities of a model that was not trained on them.

After Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", section 3.1.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

ROUNDING: Final = 1e-6  # by which a probability may miss its threshold, as in cleanlab


def thresholds(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """For each class, the mean probability of the class over the images with that label; infinite without one.

    `labels` are n places, `probabilities` are n x classes.
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    sums = np.bincount(labels, own, minlength=classes)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def confident_classes(labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> NDArray[np.int64]:
    """For each image, the most probable class whose threshold it reaches; its label if it reaches none.

    A class that differs from the label is off the diagonal of the confident joint: the label looks wrong.
    """
    reached = probabilities >= thresholds(labels, probabilities) - ROUNDING
    best = np.where(reached, probabilities, -1).argmax(axis=1)
    return np.where(reached.any(axis=1), best, labels).astype(np.int64)
