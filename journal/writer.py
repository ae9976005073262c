"""Writes predictions and labels, so that answering never waits for a database.

`Journal.put` appends a prediction to a bounded queue, and one thread writes the queue in batches. While the database is
away, the queue holds what it can; what finds it full is dropped and counted. A label is worth more than a prediction,
and rarer: it is committed before it is acknowledged.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from journal.errors import JournalFull, JournalUnavailable, RowRefused
from journal.rows import PredictionRow
from journal.urls import checked

if TYPE_CHECKING:
    from journal.database import Database

log = logging.getLogger("neocog.journal")

BATCH: Final = 500  # rows of one INSERT
GATHER: Final = 0.25  # seconds the writer waits for more rows
FEEDBACK_WAITING: Final = 64  # labels that may wait for the database; more are refused
RETRY: Final = (0.1, 2.0)  # seconds after a failure: at first, at most
FULL_RETRY: Final = 1.0  # seconds between two tries to write one row to a full journal


class Journal:
    """The queue and the thread that empties it. Raises `WrongUrl`.

    `written` and `dropped` are called with the number of predictions, from whichever thread it happens in; without
    them nobody counts. The writer thread imports SQLAlchemy, so that the service is ready a third of a second sooner.
    """

    def __init__(
        self,
        url: str,
        capacity: int,
        max_bytes: int = 0,
        *,
        written: Callable[[int], object] = int,
        dropped: Callable[[int], object] = int,
    ) -> None:
        self._url, self._capacity, self._max_bytes = checked(url), capacity, max_bytes
        self._written, self._dropped = written, dropped
        self._rows: deque[PredictionRow] = deque()
        self.full = False  # the last prediction found no room; new ones wait in the queue, then are dropped
        self._closing = threading.Event()  # set: no more rows will come
        self._arrived = threading.Event()
        self._abandoned = False  # nobody waits for the writer any more
        self._batch = BATCH
        self._threads = ThreadPoolExecutor(2, "feedback")
        self._waiting = 0
        self._database: Database | None = None
        self._lock = threading.Lock()  # the writer and the first feedback may both call `_open`
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()

    @property
    def depth(self) -> int:
        """Rows in the queue."""
        return len(self._rows)

    def put(self, row: PredictionRow) -> None:
        """Queues a prediction, or drops and counts it where the queue is full. Returns at once."""
        if len(self._rows) >= self._capacity:
            self._dropped(1)
            return
        self._rows.append(row)
        if not self._arrived.is_set():
            self._arrived.set()

    async def feedback(self, prediction_id: str, label: int) -> None:
        """Returns once the label is committed. Raises `JournalUnavailable`, at once where many labels wait already.

        Labels have threads of their own: a database that hangs holds up nothing else.
        """
        if self._waiting >= FEEDBACK_WAITING:
            raise JournalUnavailable(f"{self._waiting} labels wait for the database already")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, self._keep, prediction_id, label)
        finally:
            self._waiting -= 1

    def _keep(self, prediction_id: str, label: int) -> None:
        try:
            self._open().feedback(prediction_id, label)
        except JournalUnavailable:
            raise
        except Exception as error:
            log.exception("a label could not be kept")
            raise JournalUnavailable(str(error)) from error

    def close(self, within: float) -> None:
        """Writes the queue for at most `within` seconds. What is left counts as dropped."""
        self._closing.set()
        self._arrived.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._writer.join(within)
        self._abandoned = True
        self._writer.join(0.5)  # for the batch that is being written
        if self._rows:
            self._dropped(len(self._rows))
            log.error("%d predictions are lost: the journal could not be written in time", len(self._rows))
        if self._database is not None:
            self._database.close()

    def _open(self) -> "Database":
        with self._lock:
            if self._database is None:
                from journal.database import Database  # noqa: PLC0415 - see the class

                self._database = Database(self._url, self._max_bytes)
            return self._database

    def _write(self) -> None:
        with suppress(Exception):  # ahead of the first row, which will report the same failure
            self._open().migrate()
        wait = RETRY[0]
        while not self._abandoned and not (self._closing.is_set() and not self._rows):
            self._arrived.wait()
            self._closing.wait(GATHER)  # for more rows, unless the service ends
            self._arrived.clear()
            while self._rows and not self._abandoned:
                # By index: iterating fails where the event loop appends meanwhile.
                rows = [self._rows[i] for i in range(min(len(self._rows), self._batch))]
                try:
                    self._open().write(rows)
                except RowRefused as error:
                    self._set_aside(rows, error)
                    continue
                except JournalFull as error:
                    if self._is_full(rows, error):
                        return
                    continue
                except Exception as error:  # noqa: BLE001 - this thread must go on, whatever fails
                    if wait == RETRY[0]:
                        log.warning("the journal cannot be written, predictions are queued: %s", error)
                    time.sleep(wait)
                    wait = min(2 * wait, RETRY[1])
                    continue
                if wait != RETRY[0] or self.full:
                    log.warning("the journal is written again")
                    wait, self.full = RETRY[0], False
                for _ in rows:
                    self._rows.popleft()
                self._batch = min(2 * self._batch, BATCH)
                self._written(len(rows))

    def _is_full(self, rows: list[PredictionRow], error: Exception) -> bool:
        """Tries half as many rows, down to one, so that the last free page is used; then waits for room.

        True where nobody may wait any longer: the service ends, and the rows that are left count as dropped.
        """
        if len(rows) > 1:
            self._batch = len(rows) // 2
            return False
        if not self.full:
            log.warning("the journal is full, predictions are queued and then dropped: %s", error)
            self.full = True
        return self._closing.wait(FULL_RETRY)

    def _set_aside(self, rows: list[PredictionRow], error: Exception) -> None:
        """Finds a row that the database will never take, by halves, and drops it: it must not keep the others out."""
        if len(rows) > 1:
            self._batch = len(rows) // 2
            return
        log.error("the journal cannot hold prediction %s: %s", rows[0].id, error)
        self._dropped(1)
        self._rows.popleft()
