"""Counters by epoch, thinned so that their number grows with the logarithm of time, and merged by adding them.

An epoch is an integer that the caller gives and that never falls, for instance the hours since 1970. Evidence may start
afresh at the beginning of an epoch. Only some beginnings are kept: all of the newest epochs, every second one before
them, every fourth one before those. Whether one is kept depends only on its number and on the newest epoch. So counters
from several replicas, merged in any order, equal those of one stream to the bit.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from model import npz

SPACING: Final = 4  # a change that is t epochs old has a kept beginning within about t / SPACING epochs of it
LAST: Final = 2**32  # the greatest epoch: seconds since 1970 fit until 2106
_UNPACKED: Final = 4_000_000  # bytes of the arrays of `dumps`
_ARRAYS: Final = ("digest", "span", "starts", "counts")


class StateError(ValueError):
    """Stored counters cannot be used: they are damaged, or they were counted against another reference."""


def weight(restart: int) -> float:
    """The share of the evidence that is staked on a restart, 0 for the first. All shares together are 1.

    Falls as 1 / (restart log(restart)²), so that a late restart costs little more than the logarithm of its number.
    """
    return reserve(restart - 1) - reserve(restart)


def reserve(restart: int) -> float:
    """The share that is left for the restarts after this one."""
    return float(1 / np.log2(restart + 3))


class Epochs:
    """Counters of `width` kinds in each epoch."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.first = self.newest = -1  # the first and last epoch that was counted; -1 before there is one
        self._counts: dict[int, NDArray[np.int64]] = {}  # from this kept epoch to the next one

    def add(self, counts: NDArray[np.int64], epoch: int) -> None:
        """Adds `width` counts to an epoch. Raises `ValueError` if the epoch is below 0 or above `LAST`."""
        if not 0 <= epoch <= LAST:
            raise ValueError(f"epoch {epoch:,} is not within 0..{LAST:,}")
        self.first = epoch if self.first < 0 else min(self.first, epoch)
        newer = epoch > self.newest
        self.newest = max(self.newest, epoch)
        self._put(counts, epoch)
        if newer:
            self._thin()

    def __add__(self, other: Self) -> Self:
        if self.width != other.width:
            raise ValueError(f"counters of {self.width} kinds and of {other.width} kinds")
        both = type(self)(self.width)
        both.newest = max(self.newest, other.newest)
        both.first = min((one.first for one in (self, other) if one.first >= 0), default=-1)
        for one in (self, other):
            for start, counts in one._counts.items():
                both._put(counts, start)
        return both

    def _put(self, counts: NDArray[np.int64], epoch: int) -> None:
        start = kept(self.newest, epoch)
        before = self._counts.get(start)
        self._counts[start] = counts.astype(np.int64) if before is None else before + counts

    def _thin(self) -> None:
        old, self._counts = self._counts, {}
        for start, counts in old.items():
            self._put(counts, start)

    def total(self) -> NDArray[np.int64]:
        """The `width` counts of all epochs."""
        return np.sum(list(self._counts.values()), axis=0, dtype=np.int64) if self._counts else self._nothing()

    def restarts(self) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
        """(epoch, number, `width` counts since its beginning) of each kept restart, the newest first.

        The number, for `weight`, counts all restarts since the first epoch, the ones that were not kept too.
        """
        since = self._nothing()
        for start in sorted(self._counts, reverse=True):
            since = since + self._counts[start]
            epoch = max(start, self.first)
            yield epoch, epoch - self.first, since

    def _nothing(self) -> NDArray[np.int64]:
        return np.zeros(self.width, np.int64)

    def arrays(self, digest: bytes) -> dict[str, NDArray[np.generic]]:
        """What `parse` reads. `digest` says what was counted."""
        starts = sorted(self._counts)
        return {
            "digest": np.frombuffer(digest, np.uint8),
            "span": np.array([self.first, self.newest]),
            "starts": np.array(starts, np.int64),
            "counts": np.array([self._counts[start] for start in starts], np.int64).reshape(-1, self.width),
        }

    @classmethod
    def parse(cls, data: bytes, width: int, digest: bytes) -> Self:
        """The counters whose `arrays(digest)` an .npz file, of which `data` are the bytes, holds.

        Raises `StateError`.
        """
        try:
            found = npz.load(data, members=len(_ARRAYS), unpacked=_UNPACKED)
            stored, span, starts, counts = (found[name] for name in _ARRAYS)
        except KeyError as error:
            raise StateError(f"the stored counters have no {error}") from None
        except (ValueError, TypeError) as error:
            raise StateError(f"the stored counters are damaged: {error}") from None
        if stored.tobytes() != digest:
            raise StateError(
                f"the stored counters are of reference {stored.tobytes().hex()[:12]}, not of {digest.hex()[:12]}"
            )
        if any(one.dtype != np.int64 for one in (span, starts, counts)) or span.shape != (2,):
            raise StateError("the stored counters are damaged: they are not integers")
        if starts.ndim != 1 or counts.shape != (len(starts), width) or (counts < 0).any():
            raise StateError(f"the stored counters are damaged: {counts.shape} counts for {starts.shape} epochs")
        made = cls(width)
        made.first, made.newest = map(int, span)
        numbers = [int(start) for start in starts]
        if not made._consistent(numbers):
            raise StateError("the stored counters are damaged: their epochs contradict each other")
        made._counts = dict(zip(numbers, counts.copy(), strict=True))
        return made

    def _consistent(self, starts: list[int]) -> bool:
        if not starts:
            return self.first == self.newest == -1
        return (
            0 <= self.first <= self.newest <= LAST
            and starts[0] == kept(self.newest, self.first)
            and starts[-1] == kept(self.newest, self.newest)
            and all(a < b for a, b in pairwise(starts))
            and all(kept(self.newest, start) == start for start in starts)
        )


def kept(newest: int, epoch: int) -> int:
    """The last epoch, up to `epoch`, whose beginning is kept once `newest` has come.

    An epoch k with z trailing zero bits is kept while newest - k <= SPACING * 2^z. Epoch 0 is always kept. A kept epoch
    below `epoch` is `epoch` with some low bits cleared: if one of z zero bits is kept, so is every later one that has
    at least as many.
    """
    while epoch and newest - epoch > SPACING * (epoch & -epoch):
        epoch &= epoch - 1  # clears the lowest bit that is set
    return epoch
