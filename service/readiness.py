"""Whether this service lives, and whether it may be asked."""

import asyncio
import time
from typing import Final

from model.bundle import BundleError
from service.edge.problems import Problem
from service.state import State

STALLED: Final = 10.0  # seconds without a turn of the event loop


class Heartbeat:
    """Tells other threads whether the event loop turns."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def keep(self) -> None:
        """Never returns."""
        while True:
            self._last = time.monotonic()
            await asyncio.sleep(STALLED / 100)

    def check(self) -> None:
        """Raises `Problem` (503) where the event loop has stopped."""
        still = time.monotonic() - self._last
        if still > STALLED:
            raise Problem("stalled", f"the event loop has not turned for {still:.0f} seconds")


def check_ready(serving: State) -> str:
    """The version of the model that is ready. Raises `Problem` (503) where the service is not."""
    if serving.admission.draining:
        raise Problem("draining", "the service is about to end; ask another", retry_after=1)
    predictor = serving.bundles.current
    try:
        predictor.prove_again()
    except BundleError as error:
        raise Problem("golden-failed", str(error)) from error
    return predictor.manifest.version


def said_ready(serving: State) -> str:
    """What /readyz says. Raises `Problem` (503)."""
    said = f"ready: model {check_ready(serving)}\n"
    if serving.journal is not None and serving.journal.full:
        said += "journal: full; predictions are answered and not kept\n"
    return said
