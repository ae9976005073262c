"""Load in an open loop: a fixed number of requests is due each second, whether the service keeps up or not.

wrk is a closed loop: each of its connections waits for an answer, so a slow service is asked less. People do not wait.
`bench.abuse` and tests/service/edge/test_abuse.py use this module; it has no command of its own.
"""

import asyncio
import math
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


class _Connection(asyncio.Protocol):
    """Sends one request at a time."""

    def __init__(self, free: deque["_Connection"], seen: Seen) -> None:
        self._free, self._seen = free, seen
        self._buffer, self._begun = b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # that of a stream
        self._free.append(self)

    def ask(self, request: bytes) -> None:
        self._begun = time.perf_counter()
        self.transport.write(request)

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
        self._free.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._seen.lost += 1
        if self in self._free:
            self._free.remove(self)


def request(path: str, body: bytes, kind: str = "image/png") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def run(
    port: int,
    requests: Sequence[bytes],
    connections: int,
    *,
    seconds: float = math.inf,
    count: float = math.inf,
    rate: float | None = None,
) -> Seen:
    """Sends `requests` in turn, for `seconds` or until `count` are sent. Then waits for the last answers.

    `rate` of them are due each second. Without a rate, each connection sends the next one once it is answered.
    """
    loop = asyncio.get_running_loop()
    free: deque[_Connection] = deque()
    seen = Seen()
    made = [
        await loop.create_connection(lambda: _Connection(free, seen), "127.0.0.1", port) for _ in range(connections)
    ]
    begun, turn = time.perf_counter(), 0
    while (now := time.perf_counter() - begun) < seconds and turn < count and seen.lost < connections:
        due = len(free) if rate is None else int(now * rate) - turn - seen.unsent
        for _ in range(int(min(due, len(free), count - turn))):
            free.popleft().ask(requests[turn % len(requests)])
            turn += 1
        if rate is not None and due > 0 and not free:
            seen.unsent = int(now * rate) - turn
        await asyncio.sleep(0 if rate is None else 0.001)
    for _ in range(3000):  # the last answers
        if len(free) + seen.lost >= connections:
            break
        await asyncio.sleep(0.01)
    lost = seen.lost
    for transport, _ in made:
        transport.close()
    await asyncio.sleep(0.05)
    seen.lost = lost
    return seen
