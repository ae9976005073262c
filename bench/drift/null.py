"""How often clean traffic ever raises an alarm, beside the usual test of one window after another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.stats import kstwobign
from tqdm import tqdm

from bench.drift.alarms import ALPHA, KINDS, Watch
from bench.drift.traffic import CONFIDENCE, Measured
from model.drift import Reference
from model.statistics import NAMES, ties

WINDOW: Final = 1_000  # predictions; one looks after each window, and the usual test looks at each alone
EARLY: Final = (10, 20, 50, 100, 200, 500)  # one looks after these, too
AUDIT: Final = 0.05  # share of the predictions that people label
WITH_ERRORS: Final = 0.2  # share of the streams whose errors are watched, too: it costs as much as the evidence
KS_ONE: Final = "KS of the confidence, p < 0.05 in each window of 1,000"
KS_ALL: Final = "KS of every statistic, p < 0.05 / 9 in each window of 1,000"


@dataclass(frozen=True)
class Null:
    """Draws traffic that is exchangeable with the reference, without a bound on its length.

    The traffic's distribution, given the reference's n rows, is a Dirichlet process: each of the n + 1 gaps between
    ranks has a weight of Dirichlet(1, ..., 1). A stream draws its weights once, and then independent rows. So the ranks
    of each statistic have exactly their null distribution, and the statistics depend on each other as the reference's
    do. The gap above all others is a row of its own.
    """

    reference: Reference
    rows: Measured  # n + 1
    ties: NDArray[np.float64]  # n + 1 x len(NAMES), those of the reference
    ranks: NDArray[np.int64]  # n + 1 x len(NAMES), 1 to n + 1

    @classmethod
    def of(cls, measured: Measured) -> "Null":
        count = len(measured)
        values = np.vstack([measured.values, measured.values.max(axis=0)])
        order = np.vstack([ties([f"reference {row}" for row in range(count)]), np.ones(len(NAMES))])
        ranks = np.empty(values.shape, np.int64)
        for at in range(len(NAMES)):
            ranks[np.lexsort((order[:, at], values[:, at])), at] = np.arange(1, count + 2)
        rows = Measured(
            values, np.append(measured.right, True), np.vstack([measured.probabilities, measured.probabilities[:1]])
        )
        return cls(measured.reference(), rows, order, ranks)

    def stream(self, length: int, rng: Generator) -> NDArray[np.intp]:
        """The rows of `length` predictions."""
        sums = rng.standard_exponential(len(self.rows)).cumsum()
        return np.searchsorted(sums, rng.random(length) * sums[-1])


def looks(length: int) -> Iterator[tuple[int, int]]:
    """The begin and the end of each part of a stream after which one looks."""
    ends = [*(early for early in EARLY if early < min(WINDOW, length)), *range(WINDOW, length, WINDOW), length]
    yield from zip([0, *ends], ends, strict=False)


def watched(null: Null, rows: NDArray[np.intp], rng: Generator, *, errors: bool) -> dict[str, bool]:
    """Whether each kind of alarm is ever raised about a stream; those about errors only if `errors` is true."""
    watch = Watch(null.reference)
    raised: dict[str, bool] = {}
    labelled = rng.random(len(rows)) < AUDIT
    for begin, end in looks(len(rows)):
        some = rows[begin:end]
        watch.add(null.rows[some], null.ties[some], labelled[begin:end], begin // WINDOW)
        alarms = watch.of_evidence() | (watch.of_errors() if errors else {})
        raised = {kind: alarmed or raised.get(kind, False) for kind, alarmed in alarms.items()}
    return raised


def windowed(null: Null, rows: NDArray[np.intp]) -> dict[str, int]:
    """The number of windows about which each of the usual tests raises an alarm. Two-sample Kolmogorov-Smirnov."""
    count = len(null.rows) - 1
    scale = np.sqrt((count + WINDOW) / (count * WINDOW))
    step = np.arange(1, WINDOW + 1)[:, None]
    alarms = {KS_ONE: 0, KS_ALL: 0}
    for begin in range(0, len(rows) - WINDOW + 1, WINDOW):
        ranks = np.sort(null.ranks[rows[begin : begin + WINDOW]], axis=0)
        above, below = step / WINDOW - ranks / count, (ranks - 1) / count - (step - 1) / WINDOW
        distance = np.maximum(above, below).max(axis=0) / scale
        alarms[KS_ONE] += bool(distance[CONFIDENCE] > kstwobign.isf(ALPHA))
        alarms[KS_ALL] += bool(distance.max() > kstwobign.isf(ALPHA / len(NAMES)))
    return alarms


def measure(measured: Measured, streams: int, length: int) -> None:
    """Prints the table."""
    null = Null.of(measured)
    found: dict[str, list[int]] = {name: [] for name in (*KINDS, KS_ONE, KS_ALL)}
    for number in tqdm(range(streams), "null streams", unit="stream", leave=False, disable=None):
        rng = np.random.default_rng([number, 1])
        rows = null.stream(length, rng)
        errors = number < streams * WITH_ERRORS
        for name, alarms in (watched(null, rows, rng, errors=errors) | windowed(null, rows)).items():
            found[name].append(alarms)
    print(f"Clean streams of {length:,} predictions, a reference of {null.reference.count:,}, alpha {ALPHA}.")
    print(f"{'alarm':60} {'streams':>8} {'ever alarmed':>13} {'alarms per stream':>18}")
    for name, counts in found.items():
        ever = sum(count > 0 for count in counts) / len(counts)
        per = f"{sum(counts) / len(counts):18.1f}" if name in (KS_ONE, KS_ALL) else ""
        print(f"{name:60} {len(counts):8,} {ever:13.1%} {per}".rstrip())
