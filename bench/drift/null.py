"""How often clean traffic ever raises an alarm, beside the usual test of one window after another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.stats import kstwobign
from tqdm import tqdm

from bench.drift.alarms import ALPHA, KINDS, Watch
from bench.drift.traffic import CONFIDENCE, Measured
from model.drift import BINS, Reference
from model.statistics import NAMES, ties

WINDOW: Final = 1_000  # predictions; one looks after each window, and the usual test looks at each alone
EARLY: Final = (10, 20, 50, 100, 200, 500)  # one looks after these, too
AUDIT: Final = 0.05  # share of the predictions that people label
WITH_ERRORS: Final = 0.1  # share of the streams whose errors are watched, too: it costs as much as the evidence
KS_ONE: Final = "KS of the confidence, p < 0.05 in each window of 1,000"
KS_ALL: Final = "KS of every statistic, p < 0.05 / 9 in each window of 1,000"


@dataclass(frozen=True, eq=False)
class Rows(Reference):
    """A reference that takes the numbers of rows in the place of values, because their bins are known already."""

    places: NDArray[np.int64]  # rows x len(NAMES), the place of each row's bin among all bins of all statistics

    @classmethod
    def of_rows(cls, reference: Reference, values: NDArray[np.float64], ties: NDArray[np.float64]) -> Self:
        counted = np.stack([reference.bins(values[[row]], ties[[row]]) for row in range(len(values))])
        places = counted.argmax(axis=2) + np.arange(len(NAMES)) * BINS
        return cls(reference.gaps, reference.edges, reference.edge_ties, reference.baseline, places)

    def bins(self, values: NDArray[np.float64], ties: NDArray[np.float64]) -> NDArray[np.int64]:  # noqa: ARG002
        rows = values[:, 0].astype(np.intp)
        return np.bincount(self.places[rows].ravel(), minlength=len(NAMES) * BINS).reshape(len(NAMES), BINS)


@dataclass(frozen=True)
class Null:
    """Draws traffic that is exchangeable with the reference, without a bound on its length.

    The traffic's distribution, given the reference's n rows, is a Dirichlet process: each of the n + 1 gaps between
    ranks has a weight of Dirichlet(1, ..., 1). A stream draws its weights once, and then independent rows. So the ranks
    of each statistic have exactly their null distribution, and the statistics depend on each other as the reference's
    do. The gap above all others is a row of its own.
    """

    reference: Rows
    confident: NDArray[np.bool_]  # n + 1
    right: NDArray[np.bool_]  # n + 1
    ranks: NDArray[np.uint16]  # n + 1 x len(NAMES), 0 to n

    @classmethod
    def of(cls, measured: Measured) -> Self:
        """Takes the first 65,535 rows at most."""
        measured = measured[: np.iinfo(np.uint16).max]
        count = len(measured)
        reference = measured.reference()
        values = np.vstack([measured.values, measured.values.max(axis=0)])
        order = np.vstack([ties([f"reference {row}" for row in range(count)]), np.ones(len(NAMES))])
        ranks = np.empty(values.shape, np.uint16)
        for at in range(len(NAMES)):
            ranks[np.lexsort((order[:, at], values[:, at])), at] = np.arange(count + 1)
        confident = reference.baseline.confident(values[:, CONFIDENCE])
        return cls(Rows.of_rows(reference, values, order), confident, np.append(measured.right, True), ranks)

    def stream(self, length: int, rng: Generator) -> NDArray[np.intp]:
        """The rows of `length` predictions."""
        sums = rng.standard_exponential(len(self.right)).cumsum()
        rows: NDArray[np.intp] = np.searchsorted(sums, rng.random(length) * sums[-1])
        return rows


def looks(length: int) -> Iterator[tuple[int, int]]:
    """The begin and the end of each part of a stream after which one looks."""
    ends = [*(early for early in EARLY if early < min(WINDOW, length)), *range(WINDOW, length, WINDOW), length]
    yield from zip([0, *ends], ends, strict=False)


def watched(null: Null, rows: NDArray[np.intp], rng: Generator, *, errors: bool) -> dict[str, bool]:
    """Whether each kind of alarm is ever raised about a stream; those about errors only if `errors` is true."""
    watch = Watch(null.reference)
    raised: dict[str, bool] = {}
    labelled = rng.random(len(rows)) < AUDIT
    no_ties = np.zeros((WINDOW, len(NAMES)))
    for begin, end in looks(len(rows)):
        some = rows[begin:end]
        epoch = begin // WINDOW
        watch.evidence.add(np.repeat(some[:, None], len(NAMES), axis=1).astype(float), no_ties[: len(some)], epoch)
        if errors:
            watch.confident.add(null.confident[some], epoch)
            watch.wrong.add(~null.right[some][labelled[begin:end]], epoch)
        alarms = watch.of_evidence() | (watch.of_errors() if errors else {})
        raised = {kind: alarmed or raised.get(kind, False) for kind, alarmed in alarms.items()}
    return raised


def windowed(null: Null, rows: NDArray[np.intp]) -> dict[str, int]:
    """The number of windows about which each of the usual tests raises an alarm. Two-sample Kolmogorov-Smirnov."""
    count = len(null.right) - 1
    scale = np.sqrt((count + WINDOW) / (count * WINDOW))
    one, every = (kstwobign.isf(level) * scale for level in (ALPHA, ALPHA / len(NAMES)))
    share = np.arange(1, WINDOW + 1)[:, None] / WINDOW
    alarms = {KS_ONE: 0, KS_ALL: 0}
    for begin in range(0, len(rows) - WINDOW + 1, WINDOW):
        below = np.sort(null.ranks[rows[begin : begin + WINDOW]], axis=0, kind="stable") / count
        distance = np.maximum(share - below, below - share + 1 / WINDOW).max(axis=0)
        alarms[KS_ONE] += bool(distance[CONFIDENCE] > one)
        alarms[KS_ALL] += bool(distance.max() > every)
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
