"""Measures what abuse costs other clients, and probes.

    python -m bench.abuse        (about three minutes)

- Goodput under overload, as a share of the peak that 64 clients reach in the same way, and the p99 of /livez meanwhile,
  on the port for probes.
- What a caller of five costly pictures a second leaves to eight others.
- p99 of eight clients beside 200 slow ones, over p99 without them.
- The time until each bomb is refused, over the time of a digit.

The service runs on one core and the clients on another. Every figure but the probes' is a ratio within one run, and its
two sides are measured in turns, because the machine's speed drifts. What is true on any machine is tested in
tests/service/edge.
"""

import asyncio
import contextlib
import os
import resource
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any, NamedTuple

import httpx2
import numpy as np
import uvloop
from PIL import Image
from tqdm import tqdm

from bench import command, load
from bench.bombs import BOMBS, COSTLY, saved
from bench.load import Seen
from bench.serving import cores, server
from model.synthetic import draw


class Overload(NamedTuple):
    """Clients, and how many times the peak they ask for; 0: each asks again once it is answered."""

    clients: int
    times: int
    kept: bool

    def __str__(self) -> str:
        loop = f"open loop, {self.times}x" if self.times else "closed loop"
        return f"{self.clients:,} {'kept' if self.kept else 'new'} connections, {loop}"


OVERLOADS = (
    Overload(1000, 3, kept=True),
    Overload(1000, 10, kept=True),
    Overload(1000, 0, kept=True),
    Overload(5000, 0, kept=True),
    Overload(1000, 3, kept=False),
    Overload(1000, 0, kept=False),
)
COSTLY_RATE = 5  # pictures a second


def pictures() -> list[bytes]:
    inks = (draw(digit, size=20, pen=0.1, canvas=(28, 28)) for digit in range(10))
    return [saved(Image.fromarray(np.rint(ink * 255).astype(np.uint8)), "PNG") for ink in inks]


def clients(run: Coroutine[Any, Any, Seen]) -> Seen:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run)


@contextlib.contextmanager
def probing(port: int) -> Iterator[list[float]]:
    """Asks /livez twenty times a second, on new connections, as a kubelet does. Yields the seconds it took."""
    took: list[float] = []
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.05):
            begun = time.perf_counter()
            with socket.create_connection(("127.0.0.1", port), 60) as connection:
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
                while connection.recv(4096):
                    pass
            took.append(time.perf_counter() - begun)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    yield took
    over.set()
    thread.join()


def overload(
    port: int, probes: int, requests: list[bytes], *, seconds: float, turns: int
) -> dict[Overload, tuple[list[float], float]]:
    """For each of `OVERLOADS`: goodput as shares of the peak, and the p99 of the probes in milliseconds."""
    shares: dict[Overload, list[float]] = {kind: [] for kind in OVERLOADS}
    took: dict[Overload, list[float]] = {kind: [] for kind in OVERLOADS}
    for _ in tqdm(range(turns), "overload", leave=False, disable=None):
        for kind in OVERLOADS:
            peak = clients(load.run(port, requests, 64, seconds=seconds, kept=kind.kept)).goodput
            if not peak:
                sys.exit(f"bench: nothing was answered within {seconds:g} seconds; --seconds must be more")
            rate = kind.times * peak or None
            with probing(probes) as times:
                seen = clients(load.run(port, requests, kind.clients, seconds=seconds, rate=rate, kept=kind.kept))
            shares[kind].append(seen.goodput / peak)
            took[kind] += times
    return {kind: (shares[kind], float(np.percentile(took[kind] or [0], 99)) * 1e3) for kind in OVERLOADS}


def costly(address: str, port: int, requests: list[bytes], *, seconds: float, turns: int) -> dict[str, list[float]]:
    """Goodput of eight clients beside one who sends costly pictures, over goodput without him."""
    kept: dict[str, list[float]] = {name: [] for name in COSTLY}
    for _ in range(turns):
        for name, data in tqdm(COSTLY.items(), "costly pictures", leave=False, disable=None):
            alone = clients(load.run(port, requests, 8, seconds=seconds)).goodput
            over = threading.Event()

            def send(data: bytes = data, over: threading.Event = over) -> None:
                with httpx2.Client(base_url=address, timeout=120) as client:
                    while not over.wait(2 / COSTLY_RATE):  # there are two of them
                        client.post("/predict", content=data)

            sending = [threading.Thread(target=send, daemon=True) for _ in range(2)]
            for thread in sending:
                thread.start()
            kept[name].append(clients(load.run(port, requests, 8, seconds=seconds)).goodput / alone)
            over.set()
            for thread in sending:
                thread.join()
    return kept


def slow(port: int, requests: list[bytes], *, seconds: float, turns: int) -> list[float]:
    """p99 of eight clients beside 200 that send a byte every half second, over p99 without the 200."""

    async def p99() -> float:
        return float(np.percentile((await load.run(port, requests, 8, seconds=seconds)).took, 99))

    async def once() -> float:
        alone = await p99()
        writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(200)]
        over = asyncio.Event()

        async def trickle() -> None:
            while not over.is_set():
                for writer in writers:
                    writer.write(b"P")
                await asyncio.sleep(0.5)

        sending = asyncio.create_task(trickle())
        beside = await p99()
        over.set()
        await sending
        for writer in writers:
            writer.close()
        return beside / alone

    return [asyncio.run(once()) for _ in tqdm(range(turns), "slow clients", leave=False, disable=None)]


def bombs(address: str, picture: bytes, *, turns: int) -> dict[str, float]:
    """The time until the service refuses each bomb, over the time of a prediction for `picture`."""
    with httpx2.Client(base_url=address, timeout=30) as client:

        def took(body: bytes) -> float:
            begun = time.perf_counter()
            client.post("/predict", content=body)
            return time.perf_counter() - begun

        ratios = {}
        for name, body in tqdm(BOMBS.items(), "bombs", leave=False, disable=None):
            pairs = [(took(body), took(picture)) for _ in range(turns)]
            bomb, ordinary = (statistics.median(times) for times in zip(*pairs, strict=True))
            ratios[name] = bomb / ordinary
        return ratios


def _range(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = command.Parser("abuse", __doc__)
    parser.add_argument("--bundle", type=command.bundle, default=command.CHAMPION)
    parser.add_argument("--seconds", type=command.seconds, default=3.0, help="of load for each figure of the overload")
    parser.add_argument("--turns", type=command.count, default=3, help="of each measurement")
    arguments = parser.parse_args()
    turns = arguments.turns
    digits = pictures()
    requests = [load.request("/predict", digit) for digit in digits]
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))  # for 5,000 connections
    for_server, for_clients = cores()
    os.sched_setaffinity(0, {for_clients})
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            probes = free.getsockname()[1]
        env = {"NEOCOG_BUNDLE": str(arguments.bundle), "NEOCOG_JOURNAL": f"sqlite:///{folder}/journal.db"}
        with server(["service"], {for_server}, NEOCOG_PROBE_PORT=str(probes), **env) as (address, _, _):
            port = int(address.rpartition(":")[2])
            seconds = arguments.seconds
            goodput = overload(port, probes, requests, seconds=seconds, turns=turns)
            left = costly(address, port, requests, seconds=min(seconds, 2.0), turns=turns)
            slowed = slow(port, requests, seconds=min(seconds, 2.0), turns=turns)
            refused = bombs(address, digits[0], turns=7 * turns)
    print("| measured | figure |\n|---|---|")
    for kind, (shares, p99) in goodput.items():
        print(f"| goodput, {kind} | {_range(shares)} of the peak; p99 of a probe {p99:.0f} ms |")
    for name, shares in left.items():
        print(f"| goodput beside {name} | {_range(shares)} of that without |")
    print(f"| p99 beside 200 slow clients | {_range(slowed)} times p99 without them |")
    for name, ratio in refused.items():
        print(f"| {name} | {ratio:.1f} times a digit |")
    worst = min(statistics.median(shares) for shares, _ in goodput.values())
    probe = max(p99 for _, p99 in goodput.values())
    least = min(statistics.median(shares) for shares in left.values())
    print(
        f"\nThe least goodput is {worst:.2f} of the peak, the longest p99 of a probe {probe:.0f} ms. A caller of costly"
        f" pictures leaves the others {least:.2f}. p99 beside slow clients is {statistics.median(slowed):.2f} times p99"
        f" without them, the costliest bomb {max(refused.values()):.1f} times a digit."
    )


if __name__ == "__main__":
    command.run(main)
