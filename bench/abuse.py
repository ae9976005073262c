"""What abuse costs the others: goodput under overload, p99 beside slow and large clients, the time a bomb takes.

    make bench-abuse      (about a minute)

The service runs on CPU 0, the clients on CPU 1. Every figure is a ratio within one run, and each pair is measured in
turns: the machine's speed drifts. Tests hold what is true on any machine (tests/service/edge/test_abuse.py).
"""

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx2
import numpy as np
from PIL import Image
from tqdm import tqdm

from bench import load
from bench.bombs import BOMBS, saved
from bench.serving import server
from model.synthetic import draw

TURNS = 3


def pictures() -> list[bytes]:
    drawn = (np.rint(draw(digit, size=20, pen=0.1, canvas=(28, 28)) * 255).astype(np.uint8) for digit in range(10))
    return [saved(Image.fromarray(pixels), "PNG") for pixels in drawn]


def overload(port: int, requests: list[bytes], seconds: float) -> list[str]:
    """Rows: goodput at three and ten times the peak that 64 connections reach, of the peak."""
    kept: dict[str, list[float]] = {}
    for _ in tqdm(range(TURNS), "overload", leave=False):
        peak = asyncio.run(load.run(port, requests, 64, seconds=seconds)).codes[200] / seconds
        for name, connections, times in (("open loop, 3x", 1000, 3), ("open loop, 10x", 1000, 10), ("closed", 1000, 0)):
            seen = asyncio.run(load.run(port, requests, connections, seconds=seconds, rate=times * peak or None))
            kept.setdefault(name, []).append(seen.codes[200] / seconds / peak)
    return [f"| goodput, {name}, 1,000 connections | {_range(values)} of the peak |" for name, values in kept.items()]


def slow(port: int, requests: list[bytes]) -> str:
    """p99 of eight clients beside 200 that send a byte every half second, over p99 without them."""

    async def p99() -> float:
        return float(np.percentile((await load.run(port, requests, 8, seconds=2)).took, 99))

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

    return f"| p99 beside 200 slow clients | {_range([asyncio.run(once()) for _ in range(TURNS)])} times p99 without |"


def bombs(address: str, requests: list[bytes]) -> list[str]:
    """Rows: how long each bomb takes to be refused, over an ordinary picture."""
    picture = requests[0].partition(b"\r\n\r\n")[2]
    with httpx2.Client(base_url=address, timeout=30) as client:

        def took(body: bytes) -> float:
            times = []
            for _ in range(20):
                begun = time.perf_counter()
                client.post("/predict", content=body)
                times.append(time.perf_counter() - begun)
            return statistics.median(times)

        return [f"| {name} | {took(body) / took(picture):.1f} times a digit |" for name, body in BOMBS.items()]


def _range(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("out/champion"))
    parser.add_argument("--seconds", type=float, default=3, help="of load for each figure of the overload")
    asked = parser.parse_args()
    if not (asked.bundle / "model.onnx").exists():
        sys.exit(f"bench: no bundle at {asked.bundle}; run dvc repro first")
    requests = [load.request("/predict", picture) for picture in pictures()]
    os.sched_setaffinity(0, {1} & os.sched_getaffinity(0) or os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        env = {"NEOCOG_BUNDLE": str(asked.bundle.resolve()), "NEOCOG_JOURNAL": f"sqlite:///{folder}/journal.db"}
        with server(["service"], Path(folder), {0}, **env) as (address, _, _):
            port = int(address.rpartition(":")[2])
            print("| what | figure |\n|---|---|")
            for row in (*overload(port, requests, asked.seconds), slow(port, requests), *bombs(address, requests)):
                print(row)


if __name__ == "__main__":
    main()
