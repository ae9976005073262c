"""Waiting for what happens in another thread or process."""

import time


def until(happens, within=120):
    """Returns once `happens()` is true. The time is long: it passes only where that never comes true."""
    end = time.monotonic() + within
    while not happens():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
