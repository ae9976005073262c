"""A connection to PostgreSQL that gives up. Imported only where the journal is in PostgreSQL.

A server that is stopped leaves its kernel to acknowledge what is sent. Neither libpq's timeouts nor the server's own
then end the wait for an answer.
"""

import math
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

from journal.deadlines import left

T = TypeVar("T")


class Silent(psycopg.OperationalError):
    """The server did not answer within the thread's deadline."""


class Connection(psycopg.Connection[Any]):
    """psycopg's connection, which ends itself where `journal.deadlines` leaves no time."""

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> "Connection":
        """As psycopg's. Raises `Silent`."""
        seconds = left()
        if seconds is not None:
            if seconds <= 0:
                raise Silent("the database did not answer in time")
            kwargs["connect_timeout"] = min(math.ceil(seconds), kwargs["connect_timeout"])
        return super().connect(conninfo, **kwargs)

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """As psycopg's. Every exchange with the server passes through here. Raises `Silent`."""
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        """`gen`. psycopg resumes it with 0 ten times a second while nothing comes.

        An answer that has come is taken even after the deadline: this process may have been held up, not the server.
        """
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and (seconds := left()) is not None and seconds <= 0:
                    self.pgconn.finish()
                    raise Silent("the database did not answer in time")
                wanted = gen.send(ready)
        except StopIteration as end:
            value: T = end.value
            return value
