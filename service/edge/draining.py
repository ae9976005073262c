"""Leaving without losing a request, and in time: what happens between SIGTERM and the end."""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable

from service.edge.admission import Admission

log = logging.getLogger("neocog.draining")


def drain_first(admission: Admission, seconds: float, grace: float) -> None:
    """Puts `drain` before uvicorn's handler of SIGTERM, which closes every connection that is idle at that moment.

    On a connection that a client keeps alive the next request may be on its way, and would be lost. Whatever hangs,
    the process ends `grace` seconds after the draining: with 1, since something may be lost then.
    """
    end = signal.getsignal(signal.SIGTERM)  # uvicorn's
    if callable(end) and threading.current_thread() is threading.main_thread():
        loop = asyncio.get_running_loop()
        leaving: set[asyncio.Task[None]] = set()  # asyncio itself keeps no reference

        def leave() -> None:
            if not leaving:
                last = threading.Timer(seconds + grace, _end_now)
                last.daemon = True
                last.start()
                if seconds:
                    leaving.add(loop.create_task(drain(admission, seconds, lambda: end(signal.SIGTERM, None))))
                else:
                    end(signal.SIGTERM, None)

        loop.add_signal_handler(signal.SIGTERM, leave)


async def drain(admission: Admission, seconds: float, end: Callable[[], object]) -> None:
    """Goes on answering, and closes each connection with its answer, until none is left or the time is over."""
    log.info("draining: %d connections have %g seconds to send a last request", admission.connections, seconds)
    admission.draining = True
    deadline = time.monotonic() + seconds
    while admission.connections and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    end()


def _end_now() -> None:
    log.error("the time to end is over, and something still hangs: the process ends now")
    os._exit(1)
