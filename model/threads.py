"""Threads that nothing waits for: neither the event loop nor the end of the process.

Python waits at its end for the threads of a `ThreadPoolExecutor`. One that a database, a disk or a model keeps for good
would keep the process, too.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")
_Call = tuple["Future[Any]", Callable[..., Any], tuple[object, ...]]


class Threads:
    """`count` daemon threads, which make the calls that are submitted, in their order."""

    def __init__(self, count: int, name: str) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._make_calls, name=name, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Calls that no thread has taken yet. Their number has no bound here: who submits them must have one."""
        return self._calls.qsize()

    def submit(self, call: Callable[..., T], *arguments: object) -> "Future[T]":
        """What `call(*arguments)` will return or raise. A call that is cancelled before its turn is not made."""
        future: Future[T] = Future()
        self._calls.put((future, call, arguments))
        return future

    def close(self, within: float = 0.0) -> None:
        """Cancels the calls that wait, and gives those being made `within` seconds to end. Then nobody waits for them.

        A thread that runs C++ when Python ends can abort the process, so give it a moment.
        """
        with suppress(Empty):
            while True:
                if (taken := self._calls.get_nowait()) is not None:
                    taken[0].cancel()
        for _ in self._threads:
            self._calls.put(None)
        end = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _make_calls(self) -> None:
        while (taken := self._calls.get()) is not None:
            future, call, arguments = taken
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call(*arguments))
                except BaseException as error:  # noqa: BLE001 - it is raised where the future is awaited
                    future.set_exception(error)
            del taken, future, call, arguments  # else they stay in memory until the next call
