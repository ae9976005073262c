"""How often the model errs in production: from labels, and estimated without them. Both hold however often one looks.

A confidence sequence is an interval for each number of values so far. All of them together contain their means with
probability 1 - alpha, so an alarm may look at every one of them (Robbins 1970; Howard, Ramdas 2021).
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from math import log, log1p, nan
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import betaln
from scipy.stats import beta

from model.epochs import Epochs, weight

PRIOR: Final = 0.5  # both parameters of the mixing beta distribution; see `ConfidenceSequence`
_END: Final = 1e-12  # a root is looked for this far from 0 and 1, and to this precision
_DIGEST: Final = b"0 or 1"  # of what `ConfidenceSequence` counts


@dataclass(frozen=True)
class Interval:
    """A mean in 0..1, and the interval for it."""

    mean: float  # of the values; NaN where there are none
    low: float
    high: float
    count: int  # values


class ConfidenceSequence:
    """An anytime-valid interval for the mean of values that are 0 or 1, such as errors.

    The mixture of Robbins (1970), which is a bet on every mean at once: the interval has each p for which the values'
    likelihood under p is more than alpha times their likelihood with the mean drawn from Beta(1/2, 1/2). It needs the
    two counts alone, so sequences of several replicas are merged by adding them. The hedged capital of Waudby-Smith and
    Ramdas (2024) is up to a quarter narrower, but needs the values in their order; the lower ends are about the same.

    The mean may change with time. So a sequence restarts with each epoch (see `model.epochs`). `rise` and `fall` look
    at the values since each restart, at the share of alpha that is staked on it.
    """

    def __init__(self) -> None:
        self._epochs = Epochs(2)  # values that are 0, values that are 1

    def add(self, values: NDArray[np.bool_] | NDArray[np.integer], epoch: int = 0) -> None:
        """Adds n values of 0 or 1. Raises `ValueError` for others."""
        ones = int(np.count_nonzero(values == 1))
        zeros = int(np.count_nonzero(values == 0))
        if ones + zeros != len(values):
            raise ValueError("a confidence sequence takes values of 0 and 1 alone")
        if len(values):
            self._epochs.add(np.array([zeros, ones]), epoch)

    def __add__(self, other: Self) -> Self:
        both = type(self)()
        both._epochs = self._epochs + other._epochs
        return both

    @property
    def count(self) -> int:
        """The number of values."""
        return int(self._epochs.total().sum())

    def interval(self, alpha: float) -> Interval:
        """The interval for the mean of all values; 0..1 where there are none."""
        zeros, ones = self._epochs.total().tolist()
        return mixture_interval(ones, zeros, alpha)

    def rise(self, alpha: float) -> tuple[Interval, int | None]:
        """Of the intervals since each restart the one with the highest lower end, and its epoch (None: no values).

        With probability 1 - alpha none of them ever lies above its mean, as their shares of alpha add up to alpha.
        """
        return max(self._since(alpha), key=lambda found: found[0].low)

    def fall(self, alpha: float) -> tuple[Interval, int | None]:
        """Of the intervals since each restart the one with the lowest upper end, and its epoch (None: no values)."""
        return min(self._since(alpha), key=lambda found: found[0].high)

    def _since(self, alpha: float) -> list[tuple[Interval, int | None]]:
        return [
            (mixture_interval(int(ones), int(zeros), alpha * weight(restart)), epoch)
            for epoch, restart, (zeros, ones) in self._epochs.restarts()
        ] or [(self.interval(alpha), None)]

    def dumps(self) -> bytes:
        """What `loads` reads."""
        file = io.BytesIO()
        np.savez_compressed(file, **self._epochs.arrays(_DIGEST))  # type: ignore[arg-type]
        return file.getvalue()

    @classmethod
    def loads(cls, data: bytes) -> Self:
        """The sequence that `dumps` wrote. Raises `model.epochs.StateError`."""
        made = cls()
        made._epochs = Epochs.parse(data, 2, _DIGEST)
        return made


def mixture_interval(ones: int, zeros: int, alpha: float) -> Interval:
    """The interval of the beta mixture for the mean of this many ones and zeros."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}, not between 0 and 1")
    count = ones + zeros
    if not count:
        return Interval(nan, 0.0, 1.0, 0)
    mixture = float(betaln(PRIOR + ones, PRIOR + zeros) - betaln(PRIOR, PRIOR))

    def outside(p: float) -> float:
        """Above 0 where p is outside the interval."""
        return mixture + log(alpha) - ones * log(p) - zeros * log1p(-p)

    mean = ones / count
    low = _root(outside, _END, mean) if ones else 0.0
    high = _root(outside, 1 - _END, mean) if zeros else 1.0
    return Interval(mean, low, high, count)


def _root(outside: Callable[[float], float], end: float, inner: float) -> float:
    """Where `outside` changes its sign between `end` and the mean; `end` where the interval reaches it."""
    inner = min(max(inner, _END), 1 - _END)
    return end if outside(end) <= 0 else float(brentq(outside, end, inner, xtol=_END))


def clopper_pearson(successes: int, count: int, alpha: float) -> Interval:
    """The exact interval for the probability of a success, for a fixed count (Clopper, Pearson 1934)."""
    if not 0 <= successes <= count or not count:
        raise ValueError(f"{successes} successes of {count}")
    low = float(beta.ppf(alpha / 2, successes, count - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - alpha / 2, successes + 1, count - successes)) if successes < count else 1.0
    return Interval(successes / count, low, high, count)


def atc_threshold(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """The confidence below which as large a share of n predictions lies as is wrong: average thresholded confidence.

    The share of other predictions at or above it estimates the accuracy of those (Garg et al. 2022). That fails where
    the shift makes the model confidently wrong.
    """
    return float(np.sort(confidence)[min(int((~right).sum()), len(right) - 1)])


@dataclass(frozen=True)
class Baseline:
    """How often the model errs on the reference, and what the estimate without labels is worth there."""

    count: int
    errors: int
    threshold: float  # of `atc_threshold`
    wrong_above: int  # wrong, but at or above the threshold
    right_below: int  # right, but below it

    @classmethod
    def of(cls, confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> Self:
        """The baseline of n predictions. Raises `ValueError` if there are none."""
        if not len(right) or len(right) != len(confidence):
            raise ValueError(f"{len(confidence)} confidences and {len(right)} answers")
        threshold = atc_threshold(confidence, right)
        above = confidence >= threshold
        return cls(len(right), int((~right).sum()), threshold, int((above & ~right).sum()), int((~above & right).sum()))

    @property
    def error(self) -> float:
        """The error rate."""
        return self.errors / self.count

    def worst_error(self, alpha: float) -> float:
        """The error rate that the reference does not exclude: the upper end of the Clopper-Pearson interval.

        An alarm compares with this one. A reference with 0 errors in 143 does not show that the model never errs.
        """
        return clopper_pearson(self.errors, self.count, alpha).high

    def confident(self, confidence: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which of n predictions count as right, by their confidences as `model.statistics.measure` gives them.

        A `ConfidenceSequence` of them has the interval that `accuracy` takes.
        """
        return confidence >= self.threshold

    def accuracy(self, confident: Interval, alpha: float) -> Interval:
        """The accuracy that average thresholded confidence estimates, from the interval of `confident` predictions.

        The interval is widened by what the reference leaves open: accuracy = share at or above the threshold - wrong
        ones among these + right ones below. The reference has few of both, so each gets a Clopper-Pearson interval of
        alpha / 2. With `confident` at level a, the result has level a + alpha, as far as the two shares are the same
        in production; that is the assumption of the method.
        """
        wrong = clopper_pearson(self.wrong_above, self.count, alpha / 2)
        right = clopper_pearson(self.right_below, self.count, alpha / 2)
        return Interval(
            confident.mean,
            max(0.0, confident.low - wrong.high + right.low),
            min(1.0, confident.high - wrong.low + right.high),
            confident.count,
        )
