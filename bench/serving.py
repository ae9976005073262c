"""Measures how fast the service answers, beside the tutorials' form and beside uvicorn alone, in one run.

    python -m bench.serving        (about 4 minutes; needs wrk: apt-get install wrk)

The servers run on one core, one after the other, and wrk on another; with fewer than two cores the figures mean
nothing. wrk posts 28x28 PNGs, a different one in each request. The service has all its features on, the journal
included. Then come the costs of one request, by the size of the picture and of the batch. These are processor time of
the service, which other load on the machine changes least.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx2
import numpy as np
import psutil
from PIL import Image
from tqdm import tqdm

from bench import command
from model.synthetic import draw

LUA = Path(__file__).parent / "servers" / "post.lua"
PICTURES = 512
CONNECTIONS = (1, 16, 64)
SIDES = (28, 100, 280, 1000, 2000, 4000)
BATCHES = (1, 4, 16, 64, 256)


def cores() -> tuple[int, int]:
    """(the server's core, the clients' core); the same one if this process may use only one."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


@contextlib.contextmanager
def server(module: list[str], cpus: set[int], **env: str) -> Iterator[tuple[str, psutil.Process, float]]:
    """Starts `python -m` with the words of `module` on `cpus`; PORT stands for a free port.

    Yields its address, its process, and the seconds until it answered.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *(word.replace("PORT", str(port)) for word in module)],
        env={**os.environ, "NEOCOG_PORT": str(port), **env},
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),  # noqa: PLW1509 - no threads here yet
    )
    address = f"http://127.0.0.1:{port}"
    try:
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                httpx2.get(f"{address}/livez", timeout=1)
                break
            if process.poll() is not None:
                sys.exit(f"bench: python -m {' '.join(module)} ended with exit code {process.returncode}")
            time.sleep(0.01)
        yield address, psutil.Process(process.pid), time.perf_counter() - begun
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wrk(address: str, connections: int, seconds: int, images: Path, field: str | None) -> tuple[float, float, float]:
    """(requests a second, p50 in ms, p99 in ms)."""
    words = ["taskset", "-c", str(cores()[1]), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    words += ["-s", str(LUA), f"{address}/predict"]
    env = {**os.environ, "BENCH_IMAGES": str(images)} | ({"BENCH_FIELD": field} if field else {})
    output = subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout
    result = next(line for line in output.splitlines() if line.startswith("RESULT")).split()[1:]
    if int(result[3]):
        print(f"{result[3]} requests failed", file=sys.stderr)
    return float(result[0]), float(result[1]), float(result[2])


def memory(process: psutil.Process) -> float:
    """Resident MiB of the process and its workers. Memory that they share is counted once."""
    total: int = sum(p.memory_full_info().pss for p in [process, *process.children(recursive=True)])
    return total / 2**20


def write_pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(PICTURES):
        ink = draw(i % 10, size=int(rng.integers(17, 23)), pen=rng.uniform(0.08, 0.16), canvas=(28, 28))
        Image.fromarray(np.rint(ink * 255).astype(np.uint8)).save(folder / f"{i:03}.png")


def side_by_side(images: Path, scratch: Path, bundle: Path, seconds: int) -> str:
    """Prints a row for each server. Returns the summary."""
    model = {"BENCH_MODEL": str(bundle / "model.onnx")}
    service = {"NEOCOG_BUNDLE": str(bundle), "NEOCOG_JOURNAL": f"sqlite:///{scratch}/journal.db"}
    servers: list[tuple[str, list[str], dict[str, str], str | None]] = [
        ("uvicorn, a constant", _uvicorn("floor"), model, None),
        ("bare loop, no features", _uvicorn("bare"), model, None),
        ("tutorial form", _uvicorn("tutorial"), model, "file"),
        ("neocog, raw body", ["service"], service, None),
        ("neocog, form", ["service"], service, "image"),
    ]
    measured = {}
    print(f"| | {' | '.join(f'{c} conn., requests/s | p50, p99 ms' for c in CONNECTIONS)} | MiB | ready, s |")
    print("|---" * (2 * len(CONNECTIONS) + 3) + "|")
    for name, module, env, field in tqdm(servers, unit="server", leave=False, disable=None):
        with server(module, {cores()[0]}, **env) as (address, process, ready):
            wrk(address, 4, 2, images, field)
            cells = []
            for connections in CONNECTIONS:
                rate, p50, p99 = wrk(address, connections, seconds, images, field)
                measured[name, connections] = rate, p99
                cells.append(f"{rate:,.0f} | {p50:.1f}, {p99:.1f}")
            tqdm.write(f"| {name} | {' | '.join(cells)} | {memory(process):.0f} | {ready:.1f} |", file=sys.stdout)
    raw, form = measured["neocog, raw body", 64], measured["neocog, form", 64]
    tutorial, bare = measured["tutorial form", 64], measured["bare loop, no features", 64]
    floor = measured["uvicorn, a constant", 64][0]
    return (
        f"Requests a second at 64 connections: {raw[0] / tutorial[0]:.2f} times the tutorial form"
        f" (with a form {form[0] / tutorial[0]:.2f}), {raw[0] / bare[0]:.2f} times the bare loop,"
        f" {raw[0] / floor:.2f} times a constant; p99 {raw[1] / tutorial[1]:.2f} times the tutorial form's."
    )


def _uvicorn(name: str) -> list[str]:
    return ["uvicorn", f"bench.servers.{name}:app", "--port", "PORT", "--no-access-log", "--log-level", "warning"]


def costs(scratch: Path, bundle: Path) -> None:
    """Prints the processor time of one request after another, by the size of the picture and of the batch."""
    digit = Image.open(next((scratch / "images").iterdir()))
    env = {"NEOCOG_BUNDLE": str(bundle), "NEOCOG_JOURNAL": f"sqlite:///{scratch}/costs.db"}
    print("\n| one request | processor time, ms | for each image |\n|---|---|---|")
    requests = [(side, 0) for side in SIDES] + [(28, count) for count in BATCHES]
    with server(["service"], {cores()[0]}, **env) as (address, process, _), httpx2.Client(base_url=address) as client:
        for side, count in tqdm(requests, unit="request", leave=False, disable=None):
            picture = _png(digit, side, scratch)
            if count:
                files = [("image", ("d.png", picture))] * count
                ms = _cost(process, partial(client.post, "/predict/batch", files=files))
                row = f"| batch of {count}, 28x28 | {ms:.2f} | {ms / count:.3f} |"
            else:
                ms = _cost(process, partial(client.post, "/predict", content=picture))
                row = f"| picture of {side}x{side} | {ms:.2f} | |"
            tqdm.write(row, file=sys.stdout)


def _png(digit: Image.Image, side: int, scratch: Path) -> bytes:
    digit.resize((side, side), Image.Resampling.BICUBIC).save(scratch / "one.png")
    return (scratch / "one.png").read_bytes()


def _cost(process: psutil.Process, ask: Callable[[], httpx2.Response]) -> float:
    """Milliseconds of processor time for each request, over at least 1.5 seconds of them."""
    for _ in range(5):
        ask().raise_for_status()
    count, before, end = 0, _spent(process), time.perf_counter() + 1.5
    while time.perf_counter() < end or count < 10:
        ask()
        count += 1
    return (_spent(process) - before) / count * 1000


def _spent(process: psutil.Process) -> float:
    """Seconds of processor time since the process and its decoders began."""
    times = [one.cpu_times() for one in [process, *process.children()]]
    return sum(time.user + time.system for time in times)


def workers(images: Path, scratch: Path, bundle: Path, seconds: int) -> str:
    """How many times as many requests two workers answer as one does, as a sentence."""
    allowed = sorted(os.sched_getaffinity(0))
    rates = []
    for count in tqdm((1, 2), unit="worker", leave=False, disable=None):
        env = {"NEOCOG_BUNDLE": str(bundle), "NEOCOG_JOURNAL": f"sqlite:///{scratch}/{count}.db"}
        with server(["service"], set(allowed[:count]), NEOCOG_WORKERS=str(count), **env) as (address, _, _):
            time.sleep(2)  # the second worker starts
            wrk(address, 8, 2, images, None)
            rates.append(wrk(address, 64, seconds, images, None)[0])
    return f"Two workers answer {rates[1] / rates[0]:.2f} times as many as one ({len(allowed)} cores, wrk on one)."


def main() -> None:
    parser = command.Parser("serving", __doc__)
    parser.add_argument("--bundle", type=command.bundle, default=command.CHAMPION)
    parser.add_argument("--seconds", type=command.count, default=6, help="of load for each figure")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("bench: wrk is missing; apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        images = scratch / "images"
        images.mkdir()
        write_pictures(images)
        summary = side_by_side(images, scratch, arguments.bundle, arguments.seconds)
        costs(scratch, arguments.bundle)
        print(f"\n{summary} {workers(images, scratch, arguments.bundle, arguments.seconds)}")


if __name__ == "__main__":
    command.run(main)
