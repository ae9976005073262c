"""Load in an open loop: a fixed number of requests is due each second, whether the service keeps up or not.

wrk is a closed loop: each of its connections waits for an answer, so a slow service is asked less. People do not wait.
They do not keep their connection either: without `kept`, each request has one of its own.
`bench.abuse` and tests/service/edge/test_abuse.py use this module; it has no command of its own.
"""

import asyncio
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast


@dataclass
class Seen:
    """What the clients counted."""

    codes: Counter[int] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)  # seconds of each request that was answered with 200
    unsent: int = 0  # requests that were due while every connection waited
    lost: int = 0  # connections that ended early
    goodput: float = 0.0  # of answers with 200 a second, while requests were sent


class _Client(asyncio.Protocol):
    """Sends one request at a time: on one connection, or each on a new one."""

    def __init__(self, port: int, free: deque["_Client"], seen: Seen, *, kept: bool) -> None:
        self._port, self._free, self._seen, self._kept = port, free, seen, kept
        self._transport: asyncio.Transport | None = None
        self._buffer, self._begun = b"", 0.0
        self._request: bytes | None = None  # that is not answered yet
        self._connecting: asyncio.Task[None] | None = None

    def ask(self, request: bytes) -> None:
        self._begun, self._request = time.perf_counter(), request
        if self._transport is not None:
            self._transport.write(request)
        else:
            self._connecting = asyncio.get_running_loop().create_task(self.connect())

    async def connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)
        except OSError:
            self.connection_lost(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # that of a stream
        if self._request is not None:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        at = head.index(b"content-length: ") + 16
        if len(rest) < int(head[at:].partition(b"\r")[0]):
            return
        self._buffer = b""
        code = int(head[9:12])
        self._seen.codes[code] += 1
        if code == 200:
            self._seen.took.append(time.perf_counter() - self._begun)
        self._end()

    def connection_lost(self, _: Exception | None) -> None:
        if self._kept or self._request is not None:
            self._seen.lost += 1
        if self._kept:
            if self in self._free:
                self._free.remove(self)
        elif self._request is not None:
            self._end()

    def _end(self) -> None:
        """The next request may be sent."""
        self._request = None
        if self._kept:
            self._free.append(self)
        else:
            self.close()
            self._free.append(_Client(self._port, self._free, self._seen, kept=False))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def request(path: str, body: bytes, kind: str = "image/png") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def run(
    port: int,
    requests: Sequence[bytes],
    clients: int,
    *,
    seconds: float = math.inf,
    count: float = math.inf,
    until: threading.Event | None = None,
    rate: float | None = None,
    kept: bool = True,
) -> Seen:
    """Sends `requests` in turn, for `seconds`, `until` the event, or until `count` are sent. Waits for the answers.

    `rate` of them are due each second. Without a rate, each client sends the next one once it is answered. A client
    that is not `kept` makes a new connection for each request.
    """
    free: deque[_Client] = deque()
    seen = Seen()
    made = [_Client(port, free, seen, kept=kept) for _ in range(clients)]
    if kept:
        for client in made:
            await client.connect()
    else:
        requests = [request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1) for request in requests]
    free.extend(made)
    begun, turn = time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < seconds and turn < count and (seen.lost < clients or not kept):
        if until is not None and until.is_set():
            break
        due = len(free) if rate is None else int(now * rate) - turn - seen.unsent
        for _ in range(int(min(due, len(free), count - turn))):
            free.popleft().ask(requests[turn % len(requests)])
            turn += 1
        if rate is not None and due > 0 and not free:
            seen.unsent = int(now * rate) - turn
        await asyncio.sleep(0 if rate is None else 0.001)
    seen.goodput = seen.codes[200] / (time.perf_counter() - begun)
    for _ in range(3000):  # the last answers
        if len(free) + (seen.lost if kept else 0) >= clients:
            break
        await asyncio.sleep(0.01)
    lost = seen.lost
    for client in made:
        client.close()
    await asyncio.sleep(0.05)
    seen.lost = lost
    return seen
