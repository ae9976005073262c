"""How long the served model takes for one image."""

import time
from typing import Final

import numpy as np

from model.canonical import Pixels
from model.predictor import Predictor

WARM_UP: Final = 50  # calls; the first ones allocate
CALLS: Final = 500


def inference_us(predictor: Predictor, image: Pixels) -> float:
    """Microseconds for one 28 x 28 image in ONNX Runtime, on one thread: the median of many calls.

    The median, since a machine that also does something else makes a few calls many times as long, and none shorter.
    """
    for _ in range(WARM_UP):
        predictor.probabilities(image[None])
    took = np.empty(CALLS)
    for call in range(CALLS):
        begun = time.perf_counter_ns()
        predictor.probabilities(image[None])
        took[call] = time.perf_counter_ns() - begun
    return float(np.median(took)) / 1000
