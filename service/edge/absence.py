"""Redis, while it does not answer. Each replica then goes on with its own memory.

A limit that is too generous for a while is better than a service that refuses everybody.
"""

import logging
import time
from typing import Final

log = logging.getLogger("neocog.redis")

PATIENCE: Final = 0.5  # seconds to wait for Redis
AWAY: Final = 5.0  # seconds Redis is left alone after it failed


class Absence:
    """Remembers a failure: for `AWAY` seconds after it nobody waits for Redis again."""

    def __init__(self) -> None:
        self._until = 0.0

    def lasts(self) -> bool:
        return time.monotonic() < self._until

    def begins(self, error: Exception) -> None:
        self._until = time.monotonic() + AWAY
        log.warning("Redis is away, each replica goes on alone: %s", error)
