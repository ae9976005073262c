"""How fast the service answers, beside the form of the tutorials and beside uvicorn alone, in one run.

    make bench        (about 4 minutes; needs wrk: apt-get install wrk)

Servers run on CPU 0, one after the other, wrk on CPU 1: with fewer cores the figures mean nothing. 28x28 PNGs, each
request another; the service has everything switched on, the journal included. Then what a request costs by the size of
the picture and of the batch, as processor time of the service, which other load on the machine changes least.
"""

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import psutil
from PIL import Image
from tqdm import tqdm

from model.synthetic import draw

HERE = Path(__file__).parent / "servers"
PICTURES = 512
CONNECTIONS = (1, 16, 64)
SIDES = (28, 100, 280, 1000, 2000, 4000)
BATCHES = (1, 4, 16, 64, 256)


@contextlib.contextmanager
def server(command: list[str], folder: Path, cpus: set[int], **env: str) -> Iterator[tuple[str, psutil.Process, float]]:
    """(address, process, seconds until it answered) of a server that `command` starts on `cpus`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", *(word.replace("PORT", str(port)) for word in command)],
        env={**os.environ, "NEOCOG_PORT": str(port), "PYTHONPATH": str(HERE) if "--app-dir" in command else "", **env},
        cwd=folder if "--app-dir" in command else None,
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
                sys.exit(f"{' '.join(command)} ended with {process.returncode}")
            time.sleep(0.01)
        yield address, psutil.Process(process.pid), time.perf_counter() - begun
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def wrk(address: str, connections: int, seconds: int, images: Path, field: str | None) -> tuple[float, float, float]:
    """(requests a second, p50 in ms, p99 in ms)."""
    command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    command += ["-s", str(HERE / "post.lua"), f"{address}/predict"]
    env = {**os.environ, "BENCH_IMAGES": str(images)} | ({"BENCH_FIELD": field} if field else {})
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    result = next(line for line in said.splitlines() if line.startswith("RESULT")).split()[1:]
    if int(result[3]):
        print(f"{result[3]} requests failed", file=sys.stderr)
    return float(result[0]), float(result[1]), float(result[2])


def memory(process: psutil.Process) -> float:
    """MiB that are resident, of the process and its workers; what they share is counted once."""
    return sum(p.memory_full_info().pss for p in [process, *process.children(recursive=True)]) / 2**20


def pictures(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(PICTURES):
        ink = draw(i % 10, size=rng.uniform(17, 22), pen=rng.uniform(0.08, 0.16), canvas=(28, 28))
        Image.fromarray(np.rint(ink * 255).astype(np.uint8)).save(folder / f"{i:03}.png")


def side_by_side(images: Path, scratch: Path, bundle: Path, seconds: int) -> None:
    uvicorn = ["uvicorn", "--app-dir", str(HERE), "--port", "PORT", "--no-access-log", "--log-level", "warning"]
    model = {"BENCH_MODEL": str(bundle / "model.onnx")}
    ours = {"NEOCOG_BUNDLE": str(bundle), "NEOCOG_JOURNAL": f"sqlite:///{scratch}/journal.db"}
    servers: list[tuple[str, list[str], dict[str, str], str | None, set[int]]] = [
        ("uvicorn, a constant", [*uvicorn, "floor:app"], model, None, {0}),
        ("bare loop, no features", [*uvicorn, "bare:app"], model, None, {0}),
        ("tutorial form", [*uvicorn, "tutorial:app"], model, "file", {0}),
        ("neocog, raw body", ["service"], ours, None, {0}),
        ("neocog, form", ["service"], ours, "image", {0}),
    ]
    found = {}
    print(f"| | {' | '.join(f'{c} conn., requests/s | p50, p99 ms' for c in CONNECTIONS)} | MiB | ready, s |")
    print("|---" * (2 * len(CONNECTIONS) + 3) + "|")
    for name, command, env, field, cpus in tqdm(servers, unit="server", leave=False):
        with server(command, scratch, cpus, **env) as (address, process, ready):
            wrk(address, 4, 2, images, field)
            cells = []
            for connections in CONNECTIONS:
                rate, p50, p99 = wrk(address, connections, seconds, images, field)
                found[name, connections] = rate, p99
                cells.append(f"{rate:,.0f} | {p50:.1f}, {p99:.1f}")
            tqdm.write(f"| {name} | {' | '.join(cells)} | {memory(process):.0f} | {ready:.1f} |", file=sys.stdout)
    raw, form = found["neocog, raw body", 64], found["neocog, form", 64]
    tutorial, bare = found["tutorial form", 64], found["bare loop, no features", 64]
    floor = found["uvicorn, a constant", 64][0]
    print(
        f"\nAt 64 connections: {raw[0] / tutorial[0]:.2f} times the tutorial form (a form {form[0] / tutorial[0]:.2f}),"
        f" {raw[0] / bare[0]:.2f} times the bare loop, {raw[0] / floor:.2f} of the floor;"
        f" p99 {raw[1] / tutorial[1]:.2f} of the tutorial form's.\n"
    )


def costs(scratch: Path, bundle: Path) -> None:
    """Processor time of one request after another, by what is in it."""
    digit = Image.open(next((scratch / "images").iterdir()))
    env = {"NEOCOG_BUNDLE": str(bundle), "NEOCOG_JOURNAL": f"sqlite:///{scratch}/costs.db"}
    print("| one request | processor time, ms | for each image |\n|---|---|---|")
    with server(["service"], scratch, {0}, **env) as (address, process, _), httpx2.Client(base_url=address) as client:
        for side in SIDES:
            picture = _png(digit, side, scratch)
            kept = _cost(process, lambda picture=picture: client.post("/predict", content=picture))
            print(f"| picture of {side}x{side} | {kept:.2f} | |")
        small = _png(digit, 28, scratch)
        for count in BATCHES:
            files = [("image", ("d.png", small))] * count
            kept = _cost(process, lambda files=files: client.post("/predict/batch", files=files))
            print(f"| batch of {count}, 28x28 | {kept:.2f} | {kept / count:.3f} |")


def _png(digit: Image.Image, side: int, scratch: Path) -> bytes:
    digit.resize((side, side), Image.Resampling.BICUBIC).save(scratch / "one.png")
    return (scratch / "one.png").read_bytes()


def _cost(process: psutil.Process, ask) -> float:
    """Milliseconds of processor time for each request, over at least a second of them."""
    for _ in range(5):
        ask().raise_for_status()
    count, before, end = 0, sum(process.cpu_times()[:2]), time.perf_counter() + 1.5
    while time.perf_counter() < end or count < 10:
        ask()
        count += 1
    return (sum(process.cpu_times()[:2]) - before) / count * 1000


def workers(images: Path, scratch: Path, bundle: Path, seconds: int) -> None:
    """What a second worker brings, on as many cores as there are."""
    rates = []
    for count in (1, 2):
        env = {"NEOCOG_BUNDLE": str(bundle), "NEOCOG_JOURNAL": f"sqlite:///{scratch}/{count}.db"}
        with server(["service"], scratch, set(range(count)), NEOCOG_WORKERS=str(count), **env) as (address, _, _):
            time.sleep(2)
            wrk(address, 8, 2, images, None)
            rates.append(wrk(address, 64, seconds, images, None)[0])
    cores = os.cpu_count()
    print(f"\nTwo workers answer {rates[1] / rates[0]:.2f} times as many requests as one ({cores} cores, and wrk).")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("out/champion"))
    parser.add_argument("--seconds", type=int, default=6, help="of load for each figure")
    asked = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("bench: needs wrk (apt-get install wrk)")
    if not (asked.bundle / "model.onnx").exists():
        sys.exit(f"bench: no bundle at {asked.bundle}; run dvc repro first")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        (scratch / "images").mkdir()
        pictures(scratch / "images")
        bundle = asked.bundle.resolve()
        side_by_side(scratch / "images", scratch, bundle, asked.seconds)
        costs(scratch, bundle)
        workers(scratch / "images", scratch, bundle, asked.seconds)


if __name__ == "__main__":
    main()
