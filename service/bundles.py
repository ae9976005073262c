"""The bundle that is served, the next one, and a challenger that only looks on."""

import asyncio
import logging
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from model.bundle import BundleError
from model.canonical import SIDE, Pixels
from model.predictor import Predictor
from service import metrics
from service.labels import Labels

log = logging.getLogger("neocog.bundles")
SHADOW_QUEUE = 64  # batches that may wait for the challenger; it is not asked about more


def load(folder: Path) -> Predictor:
    """A verified predictor that has answered a batch, so that no request waits for it. Raises `BundleError`."""
    predictor = Predictor.load(folder)
    predictor.predict(np.zeros((32, SIDE, SIDE), np.uint8))
    return predictor


class Bundles:
    """`current` answers. `reload` replaces it between two batches by the folder's new bundle, if that is good.

    `labels` stay what they are: a client, a page and the journal rely on them while the service runs.
    """

    def __init__(self, folder: Path, shadow: "Shadow | None") -> None:
        self.folder = folder
        self.shadow = shadow
        self._seen = _signature(folder)
        self.current = load(folder)
        self.labels = Labels(self.current.manifest.labels)
        self._announce(self.current, 1)
        self._lock = threading.Lock()

    def reload(self) -> bool:
        """True where the folder's bundle is served now. A bad one is logged and counted, and the old one stays."""
        with self._lock:
            self._seen = _signature(self.folder)
            try:
                new = load(self.folder)
                if tuple(new.manifest.labels) != self.labels.names:
                    raise BundleError(f"{self.folder}: it has other labels; start the service anew to serve it")
            except Exception as error:  # noqa: BLE001 - the old one goes on, whatever is wrong with the new one
                metrics.RELOADS.labels("refused").inc()
                log.error("the new bundle is refused, %s is served on: %s", self.current.manifest.version, error)
                return False
            old, self.current = self.current, new
            self._announce(old, 0)
            self._announce(new, 1)
            metrics.RELOADS.labels("served").inc()
            log.info("%s is served instead of %s", new.manifest.version, old.manifest.version)
            return True

    async def watch(self, every: float) -> None:
        """Reloads at SIGHUP, and unless `every` is 0 also when a file of the bundle has changed. Never returns."""
        asked = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
        while True:
            try:
                await asyncio.wait_for(asked.wait(), every or None)
            except TimeoutError:
                if _signature(self.folder) in (self._seen, []):  # [] while `promote` replaces the folder
                    continue
            asked.clear()
            await asyncio.to_thread(self.reload)

    def _announce(self, predictor: Predictor, value: int) -> None:
        manifest = predictor.manifest
        metrics.predicted(manifest.version, self.labels.names)
        metrics.MODEL_INFO.labels(manifest.version, manifest.run, manifest.sha256.get("data", "")[:12]).set(value)


class Shadow:
    """A challenger. It sees a share of the pictures, in a thread of its own, and nobody gets its answers."""

    def __init__(self, folder: Path, share: float, *, chance: Callable[[], float] = random.random) -> None:
        self._predictor = load(folder)
        self._share, self._chance = share, chance
        self._pool = ThreadPoolExecutor(1, "shadow")
        self._waiting = 0

    def look(self, pixels: Pixels, digits: list[int]) -> None:
        """Compares the challenger's answers for the n x 28 x 28 `pixels` with `digits`. Returns at once."""
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
            answers = [prediction.digit for prediction in self._predictor.predict(pixels)]
            differ = sum(a != b for a, b in zip(answers, digits, strict=True))
            metrics.SHADOW.labels("disagrees").inc(differ)
            metrics.SHADOW.labels("agrees").inc(len(digits) - differ)
        except Exception:
            log.exception("the challenger failed")
        finally:
            self._waiting -= 1

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _signature(folder: Path) -> list[tuple[str, int, int, int]]:
    """Changes when a file of the folder does. Empty where there is no folder."""
    try:
        stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    except OSError:
        return []
    return [(name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats]
