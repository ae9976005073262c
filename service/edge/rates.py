"""Rate limits: how often each caller may ask."""

import math
import time
from typing import Any

from service.edge.absence import PATIENCE, Absence
from service.edge.problems import Problem


class Rate:
    """A limit for each caller, counted in memory, or in Redis for all replicas."""

    def __init__(self, rate: str, redis: str) -> None:
        # Imported only where a limit is set: most services stand behind a proxy that limits rates already.
        from limits import parse  # noqa: PLC0415
        from limits.aio.storage import MemoryStorage  # noqa: PLC0415
        from limits.aio.strategies import SlidingWindowCounterRateLimiter as Limiter  # noqa: PLC0415
        from limits.storage import storage_from_string  # noqa: PLC0415

        self._item = parse(rate)
        self._here = Limiter(MemoryStorage())
        self._there = None
        if redis:
            options = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
            self._there = Limiter(storage_from_string(f"async+{redis}", implementation="redispy", **options))
        self._redis = Absence()

    async def count(self, caller: str) -> None:
        """Counts a request. Raises `Problem` where the caller has used up its limit."""
        if self._there is not None and not self._redis.lasts():
            try:
                await self._hit(self._there, caller)
            except Problem:
                raise
            except Exception as error:  # noqa: BLE001 - the errors of redis-py, which is not imported here
                self._redis.begins(error)
            else:
                return
        await self._hit(self._here, caller)

    async def _hit(self, limiter: Any, caller: str) -> None:
        if not await limiter.hit(self._item, caller):
            reset, _ = await limiter.get_window_stats(self._item, caller)
            wait = max(1, math.ceil(reset - time.time()))
            raise Problem("rate-limited", f"more than {self._item} from one caller", retry_after=wait)
