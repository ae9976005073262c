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
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from journal.errors import JournalFull, JournalSilent, JournalUnavailable, RowRefused
from journal.retention import Retention
from journal.rows import LabelRow, PredictionRow
from journal.urls import checked
from model.threads import Threads

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from journal.database import Database

T = TypeVar("T")
log = logging.getLogger("neocog.journal")

BATCH: Final = 500  # rows of one INSERT
GATHER: Final = 0.25  # seconds the writer waits for more rows
ROW_BYTES: Final = 2_500  # of the queue's memory for each row it may hold; a row of digits takes at most 2,090
FEEDBACK_WAITING: Final = 64  # labels that may wait for a thread; more are refused
ANSWER: Final = 6  # seconds after which a label is refused: one more than `journal.database` gives its commit
RETRY: Final = (0.1, 2.0)  # seconds after a failure: at first, at most
FULL_RETRY: Final = 1.0  # seconds between two tries to write one row to a full journal


class Journal:
    """The queue and the thread that empties it. Raises `WrongUrl`.

    `days` is the age at which a prediction without a label is removed; 0 keeps all. `written`, `dropped` and `removed`
    are called with the number of predictions, from whichever thread it happens in; without them nobody counts. The
    writer thread imports SQLAlchemy, so that the service is ready a third of a second sooner.
    """

    def __init__(
        self,
        url: str,
        capacity: int,
        max_bytes: int = 0,
        days: float = 0,
        *,
        written: Callable[[int], object] = int,
        dropped: Callable[[int], object] = int,
        removed: Callable[[int], object] = int,
    ) -> None:
        self._url, self._capacity, self._max_bytes = checked(url), capacity, max_bytes
        self._written, self._dropped, self._removed = written, dropped, removed
        self._retention = Retention(days)
        self._rows: deque[PredictionRow] = deque()
        self._bytes_added = self._bytes_removed = 0  # each changes in one thread, since `+=` is not atomic
        self.full = False  # the last prediction found no room; new ones wait in the queue, then are dropped
        self._silent = False  # the database did not answer in time when it was last asked
        self._closing = threading.Event()  # set: no more rows will come
        self._arrived = threading.Event()
        self._abandoned = False  # nobody waits for the writer any more
        self._batch = BATCH
        self._threads = Threads(2, "feedback")
        self._calls = 0  # labels being kept, and questions
        self._database: Database | None = None
        self._lock = threading.Lock()  # the writer and the first feedback may both call `_open`
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()

    @property
    def depth(self) -> int:
        """Rows in the queue."""
        return len(self._rows)

    def put(self, row: PredictionRow) -> None:
        """Queues a prediction, or drops and counts it where the queue is full. Returns at once.

        The queue is full where it has `capacity` rows, or `ROW_BYTES` for each of these: a row grows with the number of
        labels.
        """
        size = row.size
        held = self._bytes_added - self._bytes_removed
        if len(self._rows) >= self._capacity or held + size > self._capacity * ROW_BYTES:
            self._dropped(1)
            return
        self._bytes_added += size
        self._rows.append(row)
        if not self._arrived.is_set():
            self._arrived.set()

    async def feedback(self, label: LabelRow) -> None:
        """Returns once the label is committed. Raises `JournalUnavailable`; then it may have been committed or not.

        It is raised within `ANSWER` seconds, and at once where many labels wait already. While the database does not
        answer, one label at a time finds out whether it does again, and the others are refused at once. Only a
        migration may take longer. Labels have threads of their own: a database that hangs holds up nothing else.
        """
        await self._answered(lambda database: database.feedback(label))

    async def ask(self, question: Callable[["Connection"], T]) -> T:
        """What `question` reads, in one of the threads for labels. Raises `JournalUnavailable` as `feedback` does."""
        return await self._answered(lambda database: database.ask(question))

    async def _answered(self, call: Callable[["Database"], T]) -> T:
        if self._silent and self._calls:
            raise JournalSilent("the database does not answer")
        if self._threads.waiting >= FEEDBACK_WAITING:
            raise JournalUnavailable(f"{self._threads.waiting} labels wait for the database already")
        self._calls += 1
        made = asyncio.wrap_future(self._threads.submit(self._call, call, self._silent))
        try:
            while not (await asyncio.wait([made], timeout=ANSWER))[0]:
                if self._database is None or not self._database.migrating:
                    self._silent = True
                    raise JournalSilent(f"the database has not answered after {ANSWER} seconds")
            answer: T = made.result()
            return answer
        finally:
            made.cancel()
            self._calls -= 1

    def _call(self, call: Callable[["Database"], T], tries: bool) -> T:  # noqa: FBT001 - `Threads.submit` has no names
        """Makes a call. Unless it `tries` whether a silent database answers again, it does not wait for one."""
        if self._silent and not tries:
            raise JournalSilent("the database does not answer")
        try:
            answer = call(self._open())
        except JournalUnavailable as error:
            self._silent = isinstance(error, JournalSilent)
            raise
        except Exception as error:
            log.exception("the journal failed")
            raise JournalUnavailable(str(error)) from error
        self._silent = False
        return answer

    def close(self, within: float) -> None:
        """Writes the queue for at most `within` seconds. What is left counts as dropped."""
        last = min(0.5, within / 2)  # seconds for the batch that is being written
        self._closing.set()
        self._arrived.set()
        self._threads.close()
        self._writer.join(within - last)
        self._abandoned = True
        self._writer.join(last)
        if self._rows:
            self._dropped(len(self._rows))
            log.error("%d predictions are lost: the journal could not be written in time", len(self._rows))
        if self._database is not None:
            self._database.close()

    def _open(self) -> "Database":
        with self._lock:
            if self._database is None:
                from journal.database import Database  # noqa: PLC0415 - see the class

                self._database = Database(self._url, self._max_bytes, self._removed)
            return self._database

    def _write(self) -> None:
        with suppress(Exception):  # ahead of the first row, which will report the same failure
            self._open().migrate()
        wait = RETRY[0]
        while not self._abandoned and not (self._closing.is_set() and not self._rows):
            self._arrived.wait(self._retention.wait)
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
                    if isinstance(error, JournalSilent):
                        self._silent = True
                        self._batch = max(1, len(rows) // 2)  # fewer may be written in time
                    if wait == RETRY[0]:
                        log.warning("the journal cannot be written, predictions are queued: %s", error)
                    time.sleep(wait)
                    wait = min(2 * wait, RETRY[1])
                    continue
                self._silent = False
                for _ in rows:
                    self._bytes_removed += self._rows.popleft().size
                # A row that found room does not end a full journal: the next one may find none.
                if wait != RETRY[0] or (self.full and not self._rows):
                    log.warning("the journal is written again")
                    wait, self.full = RETRY[0], False
                self._batch = min(2 * self._batch, BATCH)
                self._written(len(rows))
                self._remove_old()
            self._remove_old()

    def _remove_old(self) -> None:
        if not self._closing.is_set():
            self._retention.step(self._open)

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
        self._bytes_removed += self._rows.popleft().size
