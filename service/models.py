"""The model that is served, the next one, and a challenger that only looks on."""

import asyncio
import logging
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from model.canonical import SIDE, Pixels
from model.predictor import Predictor
from service import metrics

log = logging.getLogger("neocog.models")
SHADOW_QUEUE = 64  # batches that wait for the challenger; more than it can read are passed over


def load(folder: Path) -> Predictor:
    """A verified predictor that has answered a batch, so that no request waits for it. Raises `BundleError`."""
    predictor = Predictor.load(folder)
    predictor.predict(np.zeros((32, SIDE, SIDE), np.uint8))
    return predictor


class Models:
    """`current` answers. `reload` puts the folder's new bundle in its place between two batches, or leaves it."""

    def __init__(self, folder: Path, shadow: "Shadow | None") -> None:
        self.folder = folder
        self.shadow = shadow
        self._seen = _signature(folder)
        self.current = load(folder)
        _announce(self.current, 1)
        self._lock = threading.Lock()

    def reload(self) -> bool:
        """Whether the folder's bundle is served now. What is wrong with it is logged and counted; the old one stays."""
        with self._lock:
            self._seen = _signature(self.folder)
            try:
                new = load(self.folder)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the old one goes on
                metrics.RELOADS.labels("refused").inc()
                log.error("the new bundle is refused, %s is served on: %s", self.current.manifest.version, error)
                return False
            old, self.current = self.current, new
            _announce(old, 0)
            _announce(new, 1)
            metrics.RELOADS.labels("served").inc()
            log.info("%s is served instead of %s", new.manifest.version, old.manifest.version)
            return True

    async def watch(self, every: float) -> None:
        """Reloads at SIGHUP and, unless `every` seconds are 0, whenever a file of the bundle has changed. Endless."""
        asked = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
        while True:
            try:
                await asyncio.wait_for(asked.wait(), every or None)
            except TimeoutError:
                if _signature(self.folder) in (self._seen, []):  # [] while one folder takes another's place
                    continue
            asked.clear()
            await asyncio.to_thread(self.reload)


class Shadow:
    """A challenger that is asked about a share of the images, in a thread of its own, and never answers anybody."""

    def __init__(self, folder: Path, share: float, *, chance: Callable[[], float] = random.random) -> None:
        self._predictor = load(folder)
        self._share, self._chance = share, chance
        self._pool = ThreadPoolExecutor(1, "shadow")
        self._waiting = 0

    def look(self, pixels: Pixels, digits: list[int]) -> None:
        """Compares with `digits`, which were answered for the n x 28 x 28 `pixels`. Returns at once."""
        seen = [i for i in range(len(digits)) if self._chance() < self._share]
        if not seen:
            return
        if self._waiting >= SHADOW_QUEUE:
            metrics.SHADOW.labels("passed over").inc(len(seen))
            return
        self._waiting += 1
        self._pool.submit(self._compare, pixels[seen], [digits[i] for i in seen])

    def _compare(self, pixels: Pixels, digits: list[int]) -> None:
        try:
            said = [prediction.digit for prediction in self._predictor.predict(pixels)]
            differ = sum(a != b for a, b in zip(said, digits, strict=True))
            metrics.SHADOW.labels("disagrees").inc(differ)
            metrics.SHADOW.labels("agrees").inc(len(digits) - differ)
        except Exception:
            log.exception("the challenger failed")
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _signature(folder: Path) -> list[tuple[str, int, int, int]]:
    """What changes when a file of the folder does; empty where there is none."""
    try:
        stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    except OSError:
        return []
    return [(name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats]


def _announce(predictor: Predictor, value: int) -> None:
    manifest = predictor.manifest
    metrics.predicted(manifest.version)
    metrics.MODEL_INFO.labels(manifest.version, manifest.run, manifest.sha256.get("data", "")[:12]).set(value)
