"""The bundle that is served, the next one, and a challenger that only looks on."""

import asyncio
import logging
import math
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from model.bundle import LARGEST, BundleError, UnreadableBundleError
from model.canonical import SIDE, Pixels
from model.predictor import Predictor
from model.threads import Threads
from service import metrics
from service.labels import Labels

log = logging.getLogger("neocog.bundles")
PAUSE: Final = 1.0  # seconds between a try to load a bundle, or a look at SIGHUP, and the next look
SHADOW_QUEUE: Final = 2048  # pictures (of 784 bytes) that may wait for the challenger; it is not asked about more
LEAVING: Final = 0.5  # seconds that the end of the service waits for a bundle being loaded

_File = tuple[int, int, int, int, int] | None


def load(folder: Path) -> Predictor:
    """A verified predictor that has answered a batch, so that no request waits for it. Raises `BundleError`."""
    predictor = Predictor.load(folder)
    predictor.predict(np.zeros((32, SIDE, SIDE), np.uint8))
    return predictor


class Bundles:
    """`current` answers. `look` replaces it between two batches by the folder's new bundle, if that is good.

    `labels` stay what they are: a client, a page and the journal rely on them while the service runs.
    """

    def __init__(self, folder: Path, shadow: "Shadow | None") -> None:
        self.folder = folder
        self.shadow = shadow
        self._seen = _signature(folder)
        self._unread = False  # the folder's bundle was not read, for a reason that may have passed
        self.current = load(folder)
        self.labels = Labels(self.current.manifest.labels)
        self._announce(self.current, 1)
        self._threads = Threads(1, "bundles")

    def look(self, *, asked: bool = False) -> bool:
        """Loads the folder's bundle where it has changed since the last try, or could not be read then.

        Returns whether it tried. A bad bundle is logged and counted, and the old one stays. No file at all is an error
        only where somebody `asked`: `promote` removes the old folder just before it puts the new one there.
        """
        if self.shadow is not None:
            self.shadow.load()
        found = _signature(self.folder)
        if (found == self._seen and not self._unread) or not (asked or any(found)):
            return False
        self._seen = found  # before the files are read: what changes meanwhile is seen by the next look
        try:
            new = load(self.folder)
            if tuple(new.manifest.labels) != self.labels.names:
                raise BundleError(f"{self.folder}: it has other labels; start the service anew to serve it")
        except Exception as error:  # noqa: BLE001 - the old one goes on, whatever is wrong with the new one
            self._unread = isinstance(error, UnreadableBundleError) or not isinstance(error, BundleError)
            metrics.RELOADS.labels("refused").inc()
            log.error("the new bundle is refused, %s is served on: %s", self.current.manifest.version, error)
            return True
        self._unread = False
        old, self.current = self.current, new
        self._announce(old, 0)
        self._announce(new, 1)
        metrics.RELOADS.labels("served").inc()
        log.info("%s is served instead of %s", new.manifest.version, old.manifest.version)
        return True

    async def watch(self, every: float) -> None:
        """Looks for a new bundle at once, at SIGHUP, and every `every` seconds unless that is 0. Never returns.

        Any number of signals costs one look in `PAUSE` seconds. The last signal is always followed by a look.
        """
        signals = asyncio.Event()
        if threading.current_thread() is threading.main_thread():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, signals.set)
        asked = False
        while True:
            tried = await asyncio.wrap_future(self._threads.submit(partial(self.look, asked=asked)))
            if tried or asked:
                await asyncio.sleep(PAUSE)
            with suppress(TimeoutError):
                await asyncio.wait_for(signals.wait(), every or None)
            asked = signals.is_set()
            signals.clear()

    def close(self) -> None:
        self._threads.close(LEAVING)

    def _announce(self, predictor: Predictor, value: int) -> None:
        manifest = predictor.manifest
        metrics.predicted(manifest.version, self.labels.names)
        metrics.MODEL_INFO.labels(manifest.version, manifest.run, manifest.sha256.get("data", "")[:12]).set(value)
        metrics.MODEL_CREATED.labels(manifest.version).set(_timestamp(manifest.created) if value else 0)


class Shadow:
    """A challenger. It sees a share of the pictures, in a thread of its own, and nobody gets its answers.

    Its folder may be empty. `load` takes the bundle that is put there, so a challenger comes without a restart.
    """

    def __init__(self, folder: Path, share: float, *, chance: Callable[[], float] = random.random) -> None:
        self._folder, self._share, self._chance = folder, share, chance
        self._predictor: Predictor | None = None
        self._seen: list[_File] = []
        self._threads = Threads(1, "shadow")
        self._taken = self._done = 0  # pictures; each is counted in one thread, since `+=` is not atomic
        self.load()

    def load(self) -> None:
        """Loads the folder's bundle where it has changed since the last call. No bad bundle looks on; it is logged."""
        found = _signature(self._folder)
        if found == self._seen:
            return
        self._seen = found
        try:
            self._predictor = load(self._folder) if any(found) else None
        except Exception as error:  # noqa: BLE001 - the service answers on, whatever is wrong with the challenger
            self._predictor = None
            log.error("the challenger is refused: %s", error)
        if self._predictor is not None:
            log.info("the challenger %s looks on", self._predictor.manifest.version)
        elif not any(found):
            log.info("no challenger: %s has no bundle", self._folder)

    def look(self, pixels: Pixels, digits: list[int]) -> None:
        """Compares the challenger's answers for the n x 28 x 28 `pixels` with `digits`. Returns at once."""
        predictor = self._predictor
        seen = [i for i in range(len(digits)) if predictor is not None and self._chance() < self._share]
        if predictor is None or not seen:
            return
        if self._taken - self._done + len(seen) > SHADOW_QUEUE:
            metrics.SHADOW.labels("passed over").inc(len(seen))
            return
        self._taken += len(seen)
        self._threads.submit(self._compare, predictor, pixels[seen], [digits[i] for i in seen])

    def _compare(self, predictor: Predictor, pixels: Pixels, digits: list[int]) -> None:
        try:
            answers = [prediction.digit for prediction in predictor.predict(pixels)]
            differ = sum(a != b for a, b in zip(answers, digits, strict=True))
            metrics.SHADOW.labels("disagrees").inc(differ)
            metrics.SHADOW.labels("agrees").inc(len(digits) - differ)
        except Exception:
            log.exception("the challenger failed")
        finally:
            self._done += len(digits)

    def close(self) -> None:
        self._threads.close(LEAVING)


def _timestamp(created: str) -> float:
    """Seconds since 1970. NaN where it is no ISO 8601: a bundle is not refused for that."""
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return math.nan


def _signature(folder: Path) -> list[_File]:
    """Changes when a file of the bundle does. None stands for a file that is not there."""
    return [_status(folder / name) for name in LARGEST]


def _status(path: Path) -> _File:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
