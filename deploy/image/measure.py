"""How long a container takes from `docker run` to its first answer, what memory it holds, how fast it stops under load.

python -m deploy.image.measure [IMAGE]
"""

import statistics
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

import docker
from docker.models.containers import Container
from tqdm import tqdm

RUNS: Final = 5
PICTURE: Final = Path("samples/clean-3.png")
# As Kubernetes runs it (k8s/), on one core.
SEALED: Final[dict[str, Any]] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "tmpfs": {"/tmp": "size=16m"},  # noqa: S108 - the container's
    "ports": {"8000/tcp": ("127.0.0.1", None)},
    "detach": True,
}


def ask(address: str, seconds: float = 5) -> bytes:
    """The answer to /predict. Raises `OSError` while there is none."""
    request = urllib.request.Request(f"{address}/predict", PICTURE.read_bytes(), {"Content-Type": "image/png"})
    with urllib.request.urlopen(request, timeout=seconds) as response:
        said: bytes = response.read()
    return said


def address(container: Container) -> str:
    """Where a running container's service is reached from here."""
    container.reload()
    return f"http://127.0.0.1:{container.ports['8000/tcp'][0]['HostPort']}"


def first_answer(container: Container, begun: float) -> float:
    """Seconds since `begun` (`time.perf_counter`) when /predict is first answered. Raises after 30."""
    where = ""
    while True:
        try:
            where = where or address(container)
            ask(where)
            return time.perf_counter() - begun
        except (OSError, KeyError, TypeError, IndexError):  # no port yet, or nobody who listens
            if time.perf_counter() - begun > 30:
                raise
            time.sleep(0.01)


def main(image: str) -> None:
    client = docker.from_env()
    took, stopped, memory = [], [], []
    for _ in tqdm(range(RUNS), "containers", disable=not sys.stderr.isatty()):
        begun = time.perf_counter()
        container = client.containers.run(image, cpuset_cpus="0", **SEALED)
        try:
            took.append(first_answer(container, begun))
            where = address(container)
            for _ in range(200):
                ask(where)
            memory.append(_private(container) / 2**20)
            busy = [threading.Thread(target=_until_gone, args=[where], daemon=True) for _ in range(8)]
            for thread in busy:
                thread.start()
            time.sleep(1)
            begun = time.perf_counter()
            container.stop(timeout=30)
            stopped.append(time.perf_counter() - begun)
            if (code := container.wait()["StatusCode"]) != 0:
                sys.exit(f"measure: the container ended with {code}")
        finally:
            container.remove(force=True, v=True)
    print(f"first answer after {_range(took)} s, stopped under load in {_range(stopped)} s, {_range(memory, 0)} MiB")


def _private(container: Container) -> float:
    """Bytes of memory that are the container's: its cgroup's, without the page cache."""
    used = container.stats(stream=False)["memory_stats"]
    inside = used["stats"]
    return float(inside.get("anon", inside.get("total_rss", 0)))


def _range(values: list[float], digits: int = 2) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _until_gone(where: str) -> None:
    try:
        while True:
            ask(where)
    except OSError:
        return


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "neocog:dev")
