"""Room for a bounded number of requests at a time. More of them wait a moment for room, and then are refused.

A refusal at once would be the end of goodput: it costs a read and a write, and the client is back before the next batch
is read, so the service would do little else than refuse. Requests that wait cost nothing.
"""

import asyncio
import http
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from starlette.responses import Response

from service import metrics
from service.edge import problems
from service.edge.problems import Problem

RETRY_AFTER: Final = 1  # seconds
PICTURES: Final = 64  # decoded and not read yet; with 256 of them they leave the processor's cache, which costs a tenth
SWEEP: Final = 0.02  # seconds between two looks at who has waited too long
REFUSING: Final = 0.05  # share of the time that goes into refusals, at most


class Waiter(Protocol):
    """A request that waits. It gets one of the two calls."""

    def admitted(self) -> None: ...
    def expired(self) -> None: ...


class Admission:
    """What one worker has in hand, and who waits for room. Only the thread of its event loop uses it.

    There is room for `limit` requests, of whom `PICTURES` may wait for the reader: `pictures` tells how many do.
    """

    def __init__(self, limit: int, wait_seconds: float, pictures: Callable[[], int] = int) -> None:
        self.limit, self._patience, self._pictures = limit, wait_seconds, pictures
        self.in_flight = 0
        self.connections = 0
        self.draining = False  # the service is about to end: every answer closes its connection
        self._promised = 0  # places for requests that will enter in the event loop's next turn
        self._waiting: OrderedDict[Waiter, float] = OrderedDict()  # since when; the newest is last
        self._sweeping = False  # a sweep is due; one, however often the last waiter goes and the next one comes
        self._swept = 0.0  # when the last sweep began
        detail = f"{limit} requests are in hand, and there was no room for another within {wait_seconds:g} s"
        self._problem = Problem("busy", detail, retry_after=RETRY_AFTER)
        self._rejected = metrics.REJECTED.labels("busy")
        self._answered, self._duration = metrics.answered("other", 503)
        self._raw: bytes | None = None

    @property
    def full(self) -> bool:
        """Whether the next request has to wait."""
        return self._taken or bool(self._waiting)

    @property
    def _taken(self) -> bool:
        expected = self.in_flight + self._promised
        return expected >= self.limit or (expected >= PICTURES and self._pictures() + self._promised >= PICTURES)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def enter(self) -> None:
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1
        if self._waiting and not self._taken:
            self._admit()

    def wait(self, waiter: Waiter) -> None:
        """`waiter` hears of room, or after the wait that none came."""
        now = time.monotonic()
        if not self._sweeping:
            self._sweeping, self._swept = True, now
            asyncio.get_running_loop().call_later(SWEEP, self._sweep)
        self._waiting[waiter] = now

    def forget(self, waiter: Waiter) -> None:
        """`waiter` is gone."""
        self._waiting.pop(waiter, None)

    async def room(self) -> None:
        """Returns when there is room for a request that has been parsed. Raises `Problem` where none came."""
        while self.in_flight >= self.limit:
            place = _Place(asyncio.get_running_loop().create_future(), self._problem)
            self.wait(place)
            try:
                await place.future
            finally:
                self.forget(place)

    def _admit(self) -> None:
        """Admits one of those who wait: the oldest, or the newest once the oldest has waited for half its time.

        In turn is fair, and refuses nobody while the wait is short. But when more wait than will ever be answered, in
        turn would answer everybody just before the end of their patience. Then the newest are answered at once, and the
        others are refused. docs/threats.md has the figures.
        """
        if not self._promised:
            asyncio.get_running_loop().call_soon(self._kept)
        self._promised += 1
        oldest = next(iter(self._waiting.values()))
        waiter, _ = self._waiting.popitem(last=time.monotonic() - oldest > self._patience / 2)
        waiter.admitted()

    def _kept(self) -> None:
        """Those who were promised a place are about to enter."""
        self._promised = 0

    def _sweep(self) -> None:
        """Refuses those who have waited too long, the oldest first, in a small share of the time."""
        begun = time.monotonic()
        until, self._swept = begun + REFUSING * (begun - self._swept), begun
        while self._waiting and not self._taken:
            self._admit()
        while self._waiting and time.monotonic() < until:
            waiter, since = next(iter(self._waiting.items()))
            if begun - since < self._patience:
                break
            del self._waiting[waiter]
            waiter.expired()
        self._sweeping = bool(self._waiting)
        if self._sweeping:
            asyncio.get_running_loop().call_later(SWEEP, self._sweep)

    def refused_unread(self) -> bytes:
        """503 as bytes of HTTP, for a request that is not parsed. It counts as route `other`."""
        self._answered.inc()
        self._duration.observe(self._patience)
        if self._raw is None:
            self._raw = raw(problems.answer(self._problem))
        else:
            self._rejected.inc()
        return self._raw


class _Place:
    """A request in `service.edge.front` that waits."""

    def __init__(self, future: asyncio.Future[None], problem: Problem) -> None:
        self.future, self._problem = future, problem

    def admitted(self) -> None:
        if not self.future.done():
            self.future.set_result(None)

    def expired(self) -> None:
        if not self.future.done():
            self.future.set_exception(self._problem)


def raw(response: Response, *more: tuple[bytes, bytes]) -> bytes:
    """A response as bytes of HTTP/1.1."""
    status = http.HTTPStatus(response.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in (*response.raw_headers, *more)]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
