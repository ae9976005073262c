"""Sessions of callers: the unit that is counted, since one hand's strokes are no independent draws."""

from collections.abc import Iterable, Mapping
from typing import Final

GAP: Final = 30 * 60.0  # seconds without a prediction that end a caller's session
OPEN: Final = 10_000  # sessions that are remembered; beyond it, the caller who was quiet longest begins a new one


class Sessions:
    """Which predictions are counted: the first `each` of a caller's session."""

    def __init__(self, each: int, known: Mapping[str, tuple[float, int]] | None = None) -> None:
        self._each = each
        # The time of a caller's last prediction, and how many of the session were counted; the quietest caller first.
        self._open: dict[str, tuple[float, int]] = dict(known or {})

    def counts(self, caller: str | None, time: float) -> bool:
        """Whether a prediction is counted. One without a caller is a session of its own."""
        if caller is None:
            return True
        last, counted = self._open.pop(caller, (time, 0))
        if time - last > GAP:
            counted = 0
        fresh = counted < self._each
        self._open[caller] = time, counted + fresh
        self._forget(time)
        return fresh

    def _forget(self, time: float) -> None:
        """Drops the quietest caller while the session is over, or while there are too many."""
        while True:
            caller = next(iter(self._open))
            if len(self._open) <= OPEN and time - self._open[caller][0] <= GAP:
                return
            del self._open[caller]

    def items(self) -> Iterable[tuple[str, tuple[float, int]]]:
        """What `known` takes."""
        return self._open.items()
