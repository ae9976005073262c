"""What watching costs: time for a prediction, and the size of the state that is kept."""

from typing import Final

import numpy as np

from bench.clock import processor_time
from bench.drift.traffic import Measured, Pool
from model.drift import Evidence
from model.predictor import Predictor
from model.statistics import NAMES, measure, ties

BATCH: Final = 500
ROUNDS: Final = 20
EPOCHS: Final = 24 * 365  # a year of hours


def measure_cost(predictor: Predictor, pool: Pool) -> None:
    """Prints the times and sizes."""
    reference = pool.reference.reference()
    pixels = pool.images[:BATCH]
    probabilities, features = predictor.probabilities(pixels), predictor.features(pixels)
    values, order = measure(probabilities, pixels, features), ties([f"{row:032x}" for row in range(BATCH)])
    evidence = Evidence(reference)
    seconds = processor_time(
        lambda: measure(probabilities, pixels, features),
        lambda: ties([f"{row:032x}" for row in range(len(pixels))]),
        lambda: evidence.add(values, order, 0),
        lambda: predictor.features(pixels),
        rounds=ROUNDS,
    )
    old = kept(pool.traffic, evidence)
    (look,) = processor_time(lambda: old.average(NAMES), rounds=ROUNDS)
    each = [second / len(pixels) * 1e6 for second in seconds]
    print(f"Microseconds of processor time a prediction, in batches of {len(pixels)}:")
    for name, cost in zip(("the statistics", "their ties", "counting them"), each, strict=False):
        print(f"{name:34} {cost:8.1f}")
    print(f"{'together':34} {sum(each[:3]):8.1f}")
    print(f"{'the features, from the network':34} {each[3]:8.1f}")
    print(
        f"The state after {EPOCHS:,} epochs has {len(old.dumps()):,} bytes; one look at it takes {look * 1e3:.1f} ms."
    )


def kept(traffic: Measured, evidence: Evidence) -> Evidence:
    """Evidence of `EPOCHS` epochs, one prediction in each."""
    rng = np.random.default_rng(9)
    old = Evidence(evidence.reference)
    for epoch in range(EPOCHS):
        row = rng.integers(len(traffic), size=1)
        old.add(traffic.values[row], rng.random((1, len(NAMES))), epoch)
    return old
