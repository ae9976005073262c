"""Rate limits: how often each caller may ask."""

import hashlib
import math
import time
from collections import OrderedDict
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING, Final

from service.edge.absence import PATIENCE, Absence
from service.edge.problems import Problem

if TYPE_CHECKING:
    from limits import RateLimitItem

CALLERS: Final = 50_000  # remembered at a time, in about 20 MB
LONGEST: Final = 64  # characters of a caller's name, as many as a key's digest has


class Rate:
    """A limit for each caller, counted in memory, or in Redis for all replicas.

    An IPv6 address counts by its first 64 bits, since whoever has one has all the others of its network.
    """

    def __init__(self, rate: str, redis: str) -> None:
        # Imported only where a limit is set: most services stand behind a proxy that limits rates already.
        from limits import parse  # noqa: PLC0415

        self._item = parse(rate)
        self._here = Memory(self._item)
        self._there = None
        if redis:
            from limits.aio.strategies import SlidingWindowCounterRateLimiter as Limiter  # noqa: PLC0415
            from limits.storage import storage_from_string  # noqa: PLC0415

            options = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE}
            self._there = Limiter(storage_from_string(f"async+{redis}", implementation="redispy", **options))
        self._redis = Absence()

    async def count(self, caller: str) -> None:
        """Counts a request. Raises `Problem` where the caller has used up its limit."""
        caller = name(caller)
        if self._there is not None and not self._redis.lasts():
            try:
                if await self._there.hit(self._item, caller):
                    return
                reset, _ = await self._there.get_window_stats(self._item, caller)
            except Exception as error:  # noqa: BLE001 - the errors of redis-py, which is not imported here
                self._redis.begins(error)
            else:
                raise self._refusal(reset - time.time())
        if (wait := self._here.hit(caller, time.monotonic())) is not None:
            raise self._refusal(wait)

    def _refusal(self, wait: float) -> Problem:
        detail = f"more than {self._item} from one caller"
        return Problem("rate-limited", detail, retry_after=max(1, math.ceil(wait)))


class Memory:
    """A sliding window for each of the last `CALLERS` callers, in this process.

    A caller that is forgotten since so many others asked after it begins anew, as if it had never asked. The storage
    that `limits` has in memory grows with each caller, and looks through all of them at each request.
    """

    def __init__(self, limit: "RateLimitItem") -> None:
        self._amount, self._length = limit.amount, limit.get_expiry()
        # Of each caller: the number of its newest window, the requests in the one before, and those in it.
        self._windows: OrderedDict[str, tuple[int, int, int]] = OrderedDict()

    def hit(self, caller: str, now: float) -> float | None:
        """Counts a request at `now`. Where the limit is used up, it returns the seconds to wait, and counts nothing.

        The window before counts by the share of it that the last `self._length` seconds still cover.
        """
        window, passed = divmod(now, self._length)
        newest, before, since = self._windows.get(caller, (0, 0, 0))
        if newest != window:
            before, since = since if newest == window - 1 else 0, 0
        wait = None
        if before * (1 - passed / self._length) + since >= self._amount:
            wait = self._wait(before, since, passed)
        else:
            since += 1
        self._windows[caller] = (int(window), before, since)
        self._windows.move_to_end(caller)
        if len(self._windows) > CALLERS:
            self._windows.popitem(last=False)
        return wait

    def _wait(self, before: int, since: int, passed: float) -> float:
        """Seconds until the next request is within the limit, where no other is made."""
        room = self._amount - since
        if room > 0:
            return self._length * (1 - room / before) - passed
        return self._length * (2 - self._amount / since) - passed  # in the next window, for which this one is before


def name(caller: str) -> str:
    """What a caller's requests are counted under: of an IPv6 address its network, of a long name its hash."""
    if ":" in caller:
        try:
            address = IPv6Address(caller)
        except AddressValueError:
            pass
        else:
            return str(address.ipv4_mapped or address.packed[:8].hex())
    return caller if len(caller) <= LONGEST else hashlib.sha256(caller.encode()).hexdigest()
