"""How long the served model takes for one image."""

import time
from typing import Final

import numpy as np

from model.canonical import Pixels
from model.predictor import Predictor

WARM_UP: Final = 50  # calls; the first ones allocate memory
CALLS: Final = 500


def inference_us(predictor: Predictor, image: Pixels) -> float:
    """Microseconds for one 28 x 28 image in ONNX Runtime, on one thread: the median of many calls.

    The median, because other work on the machine makes a few calls many times longer, and never makes one shorter.
    """
    for _ in range(WARM_UP):
        predictor.probabilities(image[None])
    times = np.empty(CALLS)
    for call in range(CALLS):
        started = time.perf_counter_ns()
        predictor.probabilities(image[None])
        times[call] = time.perf_counter_ns() - started
    return float(np.median(times)) / 1000
