"""The lane of the open routes: they pass one at a time, and take a bounded share of the time."""

import asyncio
from typing import Final

from service.edge.problems import Problem

SHARE: Final = 0.1  # of the time, at most
LONGEST: Final = 0.1  # seconds the next one waits, at most
WAITING: Final = 128  # requests in the lane; more are refused, since those who leave stay in it until their turn


class Lane:
    """`async with lane:` around an answer that anybody may ask for, without a key and without a limit.

    After each answer the lane stays closed for nine times as long as the answer took. So whoever asks the probes or the
    page as often as he can leaves the others nine tenths. Someone who asks now and then notices nothing.

    Entering it raises `Problem` where too many wait.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._begun = self._open_from = 0.0
        self._waiting = 0

    async def __aenter__(self) -> None:
        if self._waiting >= WAITING:
            raise Problem("busy", f"{WAITING} requests for probes and pages wait already", retry_after=1)
        self._waiting += 1
        try:
            await self._lock.acquire()
        finally:
            self._waiting -= 1
        try:
            loop = asyncio.get_running_loop()
            if (left := self._open_from - loop.time()) > 0:
                await asyncio.sleep(left)
            self._begun = loop.time()
        except BaseException:
            self._lock.release()
            raise

    async def __aexit__(self, *_: object) -> None:
        now = asyncio.get_running_loop().time()
        self._open_from = now + min((now - self._begun) * (1 / SHARE - 1), LONGEST)
        self._lock.release()
