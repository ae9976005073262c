"""Room for so many requests at a time. More are refused at once: a queue that only grows helps nobody."""

import http
from typing import Final

from starlette.responses import Response

from service import metrics, problems
from service.problems import Problem

RETRY_AFTER: Final = 1  # seconds


class Admission:
    """What one worker has in hand: requests that have arrived, and bytes of those that still do.

    Only its event loop's thread touches this.
    """

    def __init__(self, limit: int, max_bytes: int) -> None:
        self.limit, self._max_bytes = limit, max_bytes
        self._bytes = 0
        self.in_flight = 0
        self.connections = 0
        self.draining = False  # the end has been asked for: every answer closes its connection
        said = f"{limit} requests are in hand, or their bodies fill the memory; no more are taken"
        self._problem = Problem(503, "busy", said, retry_after=RETRY_AFTER)
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
        """Whether there is memory for a body of so many bytes; `release` gives it back."""
        if self._bytes and self._bytes + size > self._max_bytes:
            return False
        self._bytes += size
        return True

    def release(self, size: int) -> None:
        self._bytes -= size

    def refusal(self, path: str) -> Response:
        """503, and when to come again."""
        return problems.answer(self._problem, path)

    def refused_unread(self) -> bytes:
        """The same as an HTTP message, for a request that no route will see; it counts as route `other`."""
        self._answered.inc()
        self._duration.observe(0)
        if self._raw is None:
            self._raw = raw(problems.answer(self._problem))
        else:
            self._rejected.inc()
        return self._raw


def raw(response: Response, *more: tuple[bytes, bytes]) -> bytes:
    """A response as HTTP/1.1 has it."""
    status = http.HTTPStatus(response.status_code)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [name + b": " + value for name, value in (*response.raw_headers, *more)]
    return b"\r\n".join([*lines, b"", bytes(response.body)])
