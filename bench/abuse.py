"""Measures what abuse costs other clients: goodput under overload, p99 beside slow clients, time to refuse a bomb.

    python -m bench.abuse        (about a minute)

The service runs on one core and the clients on another. Every figure is a ratio within one run, and its two sides are
measured in turns, because the machine's speed drifts. What is true on any machine is tested in
tests/service/edge/test_abuse.py.
"""

import asyncio
import os
import statistics
import tempfile
import time

import httpx2
import numpy as np
from PIL import Image
from tqdm import tqdm

from bench import command, load
from bench.bombs import BOMBS, saved
from bench.serving import cores, server
from model.synthetic import draw

# Name, and how many times the peak the clients ask for; 0: each connection asks again once it is answered.
OVERLOADS = (("open loop, 3x", 3), ("open loop, 10x", 10), ("closed loop", 0))


def pictures() -> list[bytes]:
    inks = (draw(digit, size=20, pen=0.1, canvas=(28, 28)) for digit in range(10))
    return [saved(Image.fromarray(np.rint(ink * 255).astype(np.uint8)), "PNG") for ink in inks]


def overload(port: int, requests: list[bytes], *, seconds: float, turns: int) -> dict[str, list[float]]:
    """Goodput of 1,000 connections for each of `OVERLOADS`, as shares of the peak that 64 connections reach."""
    shares: dict[str, list[float]] = {name: [] for name, _ in OVERLOADS}
    for _ in tqdm(range(turns), "overload", leave=False, disable=None):
        peak = asyncio.run(load.run(port, requests, 64, seconds=seconds)).codes[200] / seconds
        for name, times in OVERLOADS:
            seen = asyncio.run(load.run(port, requests, 1000, seconds=seconds, rate=times * peak or None))
            shares[name].append(seen.codes[200] / seconds / peak)
    return shares


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
    for_server, for_clients = cores()
    os.sched_setaffinity(0, {for_clients})
    with tempfile.TemporaryDirectory() as folder:
        env = {"NEOCOG_BUNDLE": str(arguments.bundle), "NEOCOG_JOURNAL": f"sqlite:///{folder}/journal.db"}
        with server(["service"], {for_server}, **env) as (address, _, _):
            port = int(address.rpartition(":")[2])
            goodput = overload(port, requests, seconds=arguments.seconds, turns=turns)
            slowed = slow(port, requests, seconds=min(arguments.seconds, 2.0), turns=turns)
            refused = bombs(address, digits[0], turns=7 * turns)
    print("| measured | figure |\n|---|---|")
    for name, shares in goodput.items():
        print(f"| goodput, {name}, 1,000 connections | {_range(shares)} of the peak |")
    print(f"| p99 beside 200 slow clients | {_range(slowed)} times p99 without them |")
    for name, ratio in refused.items():
        print(f"| {name} | {ratio:.1f} times a digit |")
    worst = min(statistics.median(shares) for shares in goodput.values())
    print(
        f"\nThe least goodput is {worst:.2f} of the peak, p99 beside slow clients {statistics.median(slowed):.2f} times"
        f" p99 without them, the costliest bomb {max(refused.values()):.1f} times a digit."
    )


if __name__ == "__main__":
    command.run(main)
