"""The memory that requests hold before they are answered: heads and bodies that arrive, and requests that wait."""

from collections import OrderedDict
from typing import Protocol


class Holder(Protocol):
    """A connection that holds bytes. `evicted` must free them."""

    def evicted(self) -> None: ...


class Buffers:
    """Counts what has arrived, not what a header promises, and keeps all connections together below `limit` bytes.

    Where there is no more room, the request goes whose last byte came the longest ago. So a client that stops sending
    keeps nobody out. Requests that have arrived whole are not evicted: they are being answered.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.total = 0
        self._arriving: OrderedDict[Holder, int] = OrderedDict()  # the last one to grow is last
        self._complete: dict[Holder, int] = {}

    def add(self, holder: Holder, size: int) -> None:
        """Counts `size` more bytes for `holder`, and evicts others, or `holder` itself, where that is too much."""
        self.total += size
        if holder in self._complete:
            self._complete[holder] += size
        else:
            self._arriving[holder] = self._arriving.pop(holder, 0) + size
        while self.total > self._limit and len(self._arriving) + len(self._complete) > 1:
            if not self._arriving:
                break
            oldest = next(iter(self._arriving))
            self.free(oldest)
            oldest.evicted()

    def complete(self, holder: Holder) -> None:
        """The request of `holder` has arrived whole."""
        self._complete[holder] = self._arriving.pop(holder, 0)

    def free(self, holder: Holder) -> None:
        """The request of `holder` is over."""
        self.total -= self._arriving.pop(holder, 0) + self._complete.pop(holder, 0)
