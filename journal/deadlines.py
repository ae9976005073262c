"""How long a thread waits for the database."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_OF_THREAD: Final = threading.local()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """What this thread asks of PostgreSQL inside takes at most `seconds`, all of it together. Not to be nested."""
    _OF_THREAD.end = time.monotonic() + seconds
    try:
        yield
    finally:
        del _OF_THREAD.end


def left() -> float | None:
    """Seconds that this thread may still wait, perhaps less than 0. None where it may wait for ever."""
    end = getattr(_OF_THREAD, "end", None)
    return None if end is None else end - time.monotonic()
