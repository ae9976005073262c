"""Evidence that production differs from the reference, which adds up over time and holds however often one looks.

**The null hypothesis** is that new values and the reference's n values are exchangeable. Then the place of a new value
among the reference's has a known distribution, whatever the distribution of the values is. Some of the reference's
sorted values part the line into bins, so that bin j has m_j of the n + 1 gaps. After N_j values in each bin, t in all:

    P(next value is in bin j | past) = (m_j + N_j) / (n + 1 + t)

This Dirichlet-multinomial is exact. It knows that the reference is finite: the less it shows, the less can be proved.

**The bet** against it is a mixture of Dirichlet-multinomials with the same means and less certainty, one for each of
`CONCENTRATIONS`. Its likelihood over the null hypothesis's is an e-process: a gambler's capital, 1 at the start, whose
mean stays 1 under the null hypothesis. Ville's inequality then says P(it ever reaches 1 / alpha) <= alpha. All of it is
a closed form of the counts.

**Changes that come late** need a bet that begins late. So a share of the capital, `model.epochs.weight`, is staked at
the beginning of each epoch; the shares add up to 1. An e-detector without shares (Shin, Ramdas, Rinaldo 2023) notices
sooner, but bounds only the mean time between false alarms: it raises one sooner or later with certainty. With shares,
the probability of a false alarm at any time is at most alpha. A late change costs the logarithm of 1 over its share.
"""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from model import npz
from model.epochs import Epochs, StateError, reserve, weight
from model.risk import Baseline
from model.statistics import NAMES, ties

HARM: Final = ("confidence", "class")  # these tell of errors; the other statistics change with harmless styles, too
BINS: Final = 20  # of a statistic, at most
# Shares of the reference below each edge. Bins are narrow at both ends: the first errors are the least confident few.
QUANTILES: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
CONCENTRATIONS: Final = (1.0, 5.0, 25.0, 125.0, 625.0, 3125.0)  # pseudo-counts: from great changes to slight ones
_UNPACKED: Final = 1_000_000  # bytes of the arrays of reference.npz
_ARRAYS: Final = ("gaps", "edges", "edge_ties", "counts", "threshold")


class BadReference(ValueError):
    """The file is no reference of this code: it is damaged, or from a bundle of before there was one."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What the statistics of `model.statistics` are on labelled data that the model did not train on."""

    gaps: NDArray[np.int64]  # statistics x BINS, the gaps in each bin, n + 1 in all; 0 beyond a statistic's last bin
    edges: NDArray[np.float64]  # statistics x (BINS - 1), the values that part the bins; infinite beyond the last
    edge_ties: NDArray[np.float64]  # statistics x (BINS - 1), their ties
    baseline: Baseline

    @classmethod
    def of(cls, values: NDArray[np.float64], right: NDArray[np.bool_]) -> Self:
        """The reference of n x len(NAMES) values and of whether each of the n predictions was right.

        Raises `ValueError` if n is 0 or if a value is not finite.
        """
        _check(values)
        baseline = Baseline.of(values[:, NAMES.index("confidence")], right)
        order = ties([f"reference {row}" for row in range(len(values))])
        gaps = np.zeros((len(NAMES), BINS), np.int64)
        edges = np.full((len(NAMES), BINS - 1), np.inf)
        edge_ties = np.ones((len(NAMES), BINS - 1))
        for at, name in enumerate(NAMES):
            ranks = _class_ranks(values[:, at]) if name == "class" else _quantile_ranks(len(values))
            rows = np.lexsort((order[:, at], values[:, at]))[ranks - 1]
            gaps[at, : len(ranks) + 1] = np.diff(ranks, prepend=0, append=len(values) + 1)
            edges[at, : len(ranks)], edge_ties[at, : len(ranks)] = values[rows, at], order[rows, at]
        return cls(gaps, edges, edge_ties, baseline)

    @property
    def count(self) -> int:
        """The number n of predictions."""
        return self.baseline.count

    @property
    def error(self) -> float:
        """The error rate."""
        return self.baseline.error

    @property
    def atc_threshold(self) -> float:
        """The threshold of average thresholded confidence, see `model.risk`."""
        return self.baseline.threshold

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the bins. Evidence against one reference is none against another."""
        return hashlib.sha256(b"".join(one.tobytes() for one in (self.gaps, self.edges, self.edge_ties))).digest()

    def bins(self, values: NDArray[np.float64], ties: NDArray[np.float64]) -> NDArray[np.int64]:
        """How many of n x len(NAMES) values, with their ties, lie in each bin: len(NAMES) x BINS."""
        counts = np.empty((len(NAMES), BINS), np.int64)
        for at in range(len(NAMES)):
            value, tie = values[:, at, None], ties[:, at, None]
            edges, edge_ties = self.edges[at], self.edge_ties[at]
            place = ((edges < value) | ((edges == value) & (edge_ties < tie))).sum(axis=1)
            counts[at] = np.bincount(place, minlength=BINS)
        return counts

    def shares(self, name: str) -> NDArray[np.float64]:
        """The share of a statistic's values that each of its bins has under the null hypothesis."""
        gaps = self.gaps[NAMES.index(name)]
        shares: NDArray[np.float64] = gaps[gaps > 0] / (self.count + 1)
        return shares

    def dumps(self) -> bytes:
        """What `parse` reads: reference.npz. The same reference gives the same bytes."""
        base = self.baseline
        file = io.BytesIO()
        np.savez(file, gaps=self.gaps, edges=self.edges, edge_ties=self.edge_ties, threshold=np.array(base.threshold),
                 counts=np.array([base.count, base.errors, base.wrong_above, base.right_below]))  # fmt: skip
        return file.getvalue()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The reference whose reference.npz has the bytes `data`. Raises `BadReference`."""
        try:
            found = npz.load(data, members=len(_ARRAYS), unpacked=_UNPACKED)
            gaps, edges, edge_ties, counts, threshold = (found[name] for name in _ARRAYS)
        except KeyError as error:
            raise BadReference(f"reference.npz has no {error}: export the model again with this code") from None
        except (ValueError, TypeError) as error:
            raise BadReference(f"reference.npz: {error}") from None
        if counts.shape != (4,) or counts.dtype != np.int64 or threshold.shape != () or threshold.dtype != np.float64:
            raise BadReference("reference.npz: its counts are no counts")
        count, errors, wrong_above, right_below = map(int, counts)
        if not _consistent(gaps, edges, edge_ties, count):
            raise BadReference("reference.npz: its bins contradict each other")
        if not 0 <= wrong_above <= errors <= count or not 0 <= right_below <= count - errors or not threshold >= 0:
            raise BadReference("reference.npz: its counts contradict each other")
        return cls(gaps, edges, edge_ties, Baseline(count, errors, float(threshold), wrong_above, right_below))


def _check(values: NDArray[np.float64]) -> None:
    if values.ndim != 2 or values.shape[1] != len(NAMES):
        raise ValueError(f"values of shape {values.shape}, not n x {len(NAMES)}")
    if not np.isfinite(values).all():
        raise ValueError("a statistic is not finite")


def _quantile_ranks(count: int) -> NDArray[np.int64]:
    """The ranks, 1 to n, of the sorted values that part the bins."""
    return np.unique(np.clip(np.rint(np.array(QUANTILES) * (count + 1)), 1, count).astype(np.int64))


def _class_ranks(places: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rank of the last value of each class but the last one. The rarest neighbours share a bin beyond `BINS`."""
    counts = np.unique(places, return_counts=True)[1].tolist()
    while len(counts) > BINS:
        rarest = min(range(len(counts) - 1), key=lambda at: counts[at] + counts[at + 1])
        counts[rarest : rarest + 2] = [counts[rarest] + counts[rarest + 1]]
    return np.cumsum(counts, dtype=np.int64)[:-1]


def _consistent(gaps: NDArray[np.int64], edges: NDArray[np.float64], ties: NDArray[np.float64], count: int) -> bool:
    """Whether the arrays of a file are as `Reference.of` makes them, for n = `count` values."""
    shapes = (len(NAMES), BINS), (len(NAMES), BINS - 1), (len(NAMES), BINS - 1)
    if (gaps.shape, edges.shape, ties.shape) != shapes or [one.dtype for one in (gaps, edges, ties)] != [
        np.int64, np.float64, np.float64
    ]:  # fmt: skip
        return False
    used = gaps > 0
    in_order = (edges[:, :-1] < edges[:, 1:]) | ((edges[:, :-1] == edges[:, 1:]) & (ties[:, :-1] <= ties[:, 1:]))
    return bool(
        (gaps.sum(axis=1) == count + 1).all()
        and (gaps >= 0).all()
        and (used[:, :-1] >= used[:, 1:]).all()
        and (np.isfinite(edges) == used[:, 1:]).all()
        and ((ties >= 0) & (ties <= 1)).all()
        and in_order.all()
    )


def log_bet(gaps: NDArray[np.int64], before: NDArray[np.int64], since: NDArray[np.int64]) -> NDArray[np.float64]:
    """The natural logarithm of the e-value of the counts `since` a restart. All are ... x bins; unused bins lack gaps.

    The null hypothesis predicts from the reference and from the counts before the restart. The bets have its means.
    """
    null = np.where(gaps > 0, gaps + before, 0).astype(np.float64)
    means = null / null.sum(axis=-1, keepdims=True)
    bets = np.stack([_log_likelihood(concentration * means, since) for concentration in CONCENTRATIONS])
    mixture: NDArray[np.float64] = logsumexp(bets, axis=0) - np.log(len(CONCENTRATIONS))
    against: NDArray[np.float64] = mixture - _log_likelihood(null, since)
    return against


def _log_likelihood(prior: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of values in one order with these counts, under the Dirichlet-multinomial of `prior`. Both are ... x bins."""
    total, drawn = prior.sum(axis=-1), counts.sum(axis=-1)
    bins = np.where(prior > 0, prior, 1)
    terms: NDArray[np.float64] = gammaln(bins + counts) - gammaln(bins)
    whole: NDArray[np.float64] = gammaln(total + drawn) - gammaln(total)
    log_likelihood: NDArray[np.float64] = terms.sum(axis=-1) - whole
    return log_likelihood


class Evidence:
    """The evidence of each statistic against the null hypothesis that production is like the reference.

    What is kept are counters, at most 64 KB: see `model.epochs`. An e-process of 1 / alpha proves a change at level
    alpha, also if it falls again later: the largest so far is what counts.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._epochs = Epochs(len(NAMES) * BINS)

    def add(self, values: NDArray[np.float64], ties: NDArray[np.float64], epoch: int) -> None:
        """Adds n predictions of an epoch, from `measure` and `ties` of `model.statistics`.

        Raises `ValueError` for another shape or a value that is not finite.
        """
        _check(values)
        if ties.shape != values.shape:
            raise ValueError(f"ties of shape {ties.shape} for values of shape {values.shape}")
        if len(values):
            self._epochs.add(self.reference.bins(values, ties).ravel(), epoch)

    def __add__(self, other: Self) -> Self:
        """The evidence of both. Raises `ValueError` if they have two references."""
        if other.reference.digest != self.reference.digest:
            raise ValueError("evidence against two references cannot be added")
        both = type(self)(self.reference)
        both._epochs = self._epochs + other._epochs
        return both

    @property
    def count(self) -> int:
        """The number of predictions."""
        return int(self._epochs.total()[:BINS].sum())

    def log_evidence(self) -> dict[str, float]:
        """The natural logarithm of each statistic's e-process; 0 before the first prediction."""
        if self._epochs.newest < 0:
            return dict.fromkeys(NAMES, 0.0)
        _, parts, _ = self._restarts()
        future = np.full(len(NAMES), np.log(reserve(self._epochs.newest - self._epochs.first)))
        whole: NDArray[np.float64] = logsumexp(np.vstack([parts, future]), axis=0)
        return dict(zip(NAMES, whole.tolist(), strict=True))

    def average(self, names: Iterable[str]) -> float:
        """The natural logarithm of the mean of these statistics' e-processes, which is an e-process, too."""
        logs = self.log_evidence()
        chosen = [logs[name] for name in names]
        return float(logsumexp(chosen) - np.log(len(chosen)))

    def since(self, name: str) -> int | None:
        """The epoch of the restart that has most of a statistic's evidence; None before the first prediction."""
        return self._most(name)[0]

    def counts(self, name: str) -> NDArray[np.int64]:
        """The values in each bin of a statistic since `since`, to compare with the reference's `shares`."""
        at = NAMES.index(name)
        counts: NDArray[np.int64] = self._most(name)[1][self.reference.gaps[at] > 0]
        return counts

    def _most(self, name: str) -> tuple[int | None, NDArray[np.int64]]:
        if self._epochs.newest < 0:
            return None, np.zeros(BINS, np.int64)
        epochs, parts, since = self._restarts()
        at = NAMES.index(name)
        best = int(parts[:, at].argmax())
        return epochs[best], since[best, at]

    def _restarts(self) -> tuple[list[int], NDArray[np.float64], NDArray[np.int64]]:
        """The epoch of each restart, the logarithms of its parts of the e-processes, and the bins' counts since it."""
        found = list(self._epochs.restarts())
        since = np.stack([counts.reshape(len(NAMES), BINS) for _, _, counts in found])
        shares = np.log([weight(number) for _, number, _ in found])
        before = self._epochs.total().reshape(len(NAMES), BINS) - since
        return [epoch for epoch, _, _ in found], log_bet(self.reference.gaps, before, since) + shares[:, None], since

    def dumps(self) -> bytes:
        """What `loads` reads, with the reference's digest."""
        file = io.BytesIO()
        np.savez_compressed(file, **self._epochs.arrays(self.reference.digest))  # type: ignore[arg-type]
        return file.getvalue()

    @classmethod
    def loads(cls, data: bytes, reference: Reference) -> Self:
        """The evidence that `dumps` wrote. Raises `StateError` if it is damaged, or of another reference."""
        made = cls(reference)
        made._epochs = Epochs.parse(data, len(NAMES) * BINS, reference.digest)
        for _, _, counts in made._epochs.restarts():
            bins = counts.reshape(len(NAMES), BINS)
            if bins[reference.gaps == 0].any() or len(set(bins.sum(axis=1).tolist())) != 1:
                raise StateError("the stored counters are damaged: the statistics have different counts")
        return made
