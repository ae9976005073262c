"""Room for a bounded number of requests at a time. More are refused at once: a queue that only grows helps nobody."""

import http
from typing import Final, NamedTuple

from starlette.responses import Response

from service import metrics
from service.edge import problems
from service.edge.problems import Problem

RETRY_AFTER: Final = 1  # seconds


class Admission:
    """What one worker has in hand: requests that have arrived, and bytes of bodies that are arriving.

    Only the event loop's thread uses it.
    """

    def __init__(self, limit: int, max_bytes: int) -> None:
        self.limit, self._max_bytes = limit, max_bytes
        self._bytes = 0
        self.in_flight = 0
        self.connections = 0
        self.draining = False  # the service is about to end: every answer closes its connection
        detail = f"{limit} requests are in hand, or their bodies fill the memory; no more are taken"
        self._problem = Problem("busy", detail, retry_after=RETRY_AFTER)
        self._rejected = metrics.REJECTED.labels("busy")
        self._answered, self._duration = metrics.answered("other", 503)
        self._raw: bytes | None = None

    @property
    def full(self) -> bool:
        return self.in_flight >= self.limit

    def enter(self) -> None:
        self.in_flight += 1

    def leave(self) -> None:
        self.in_flight -= 1

    def reserve(self, size: int) -> bool:
        """Reserves memory for a body of `size` bytes. False where there is none left. `release` gives it back."""
        if self._bytes and self._bytes + size > self._max_bytes:
            return False
        self._bytes += size
        return True

    def release(self, size: int) -> None:
        self._bytes -= size

    def refusal(self, path: str) -> Response:
        """503, with the time after which another try is worth it."""
        return problems.answer(self._problem, path)

    def refused_unread(self) -> bytes:
        """The same as bytes of HTTP, for a request that is not parsed. It counts as route `other`."""
        self._answered.inc()
        self._duration.observe(0)
        if self._raw is None:
            self._raw = raw(problems.answer(self._problem))
        else:
            self._rejected.inc()
        return self._raw


class Door(NamedTuple):
    """What uvicorn's protocol must know of the application; the lifespan hands it over."""

    admission: Admission
    read_seconds: float
    first_lines: tuple[bytes, ...]  # of the requests that may be refused unread: those to direct routes


def raw(response: Response, *more: tuple[bytes, bytes]) -> bytes:
    """A response as bytes of HTTP/1.1."""
    status = http.HTTPStatus(response.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in (*response.raw_headers, *more)]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
