"""Every prediction and every feedback, in SQL: SQLite by default, PostgreSQL by URL.

Predictions never wait for the database: `Journal.put` appends to a bounded queue, and one thread writes it in batches.
When the database is away the queue holds and drains afterwards; what finds it full is dropped and counted. Feedback is
worth more than a prediction, and rarer: it is written before it is acknowledged.
"""

import asyncio
import importlib.util
import logging
import re
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from service import metrics
from service.settings import SettingsError

if TYPE_CHECKING:
    from service.journal.database import Database

log = logging.getLogger("neocog.journal")

OFF: Final = "off"
AT_ONCE: Final = 500  # rows of one INSERT
GATHER: Final = 0.25  # seconds the writer lets rows come together
FEEDBACK_WAITING: Final = 64  # labels that wait for the database; more are refused
RETRY: Final = (0.1, 2.0)  # seconds after a failure: at first, at most
FULL_RETRY: Final = 1.0  # seconds between two tries to write one row to a full journal
ID: Final = 32  # hexadecimal digits of a prediction's id
TAG: Final = 200  # characters a client may send to find its predictions again
_URL: Final = re.compile(r"(sqlite):///.+|(postgres(?:ql)?(?:\+psycopg)?)://\S+")


class JournalUnavailable(Exception):
    """The database cannot be written to now."""


class JournalFull(JournalUnavailable):
    """The database answers, but has no room: `NEOCOG_JOURNAL_MAX_BYTES` is reached, or the disk is full."""


class Unwritable(JournalUnavailable):
    """The database is there, and refuses what is to be written."""


class Row(NamedTuple):
    """A prediction, as it is queued; the columns of `tables.predictions`, with the image not yet packed."""

    id: str
    time: float
    model_version: str
    digit: int
    confidence: float
    probabilities: bytes
    abstained: bool
    image: bytes
    tag: str | None


def checked(url: str) -> str:
    """`url` as SQLAlchemy wants it. Raises `SettingsError` for one that no journal can be meant by."""
    found = _URL.fullmatch(url)
    if found is None or (found[2] and importlib.util.find_spec("psycopg") is None):
        shown = re.sub(r"//[^@/]*@", "//…@", url)  # no password in a log
        allowed = "sqlite:///FILE, postgresql://USER@HOST/DATABASE (pip install 'neocog[postgres]'), or off"
        raise SettingsError(f"NEOCOG_JOURNAL is {shown!r}, allowed is: {allowed}")
    return re.sub("^postgres:", "postgresql:", url)


class Journal:
    """The queue and the thread that empties it. Raises `SettingsError` for a URL no database can be meant by.

    The thread imports SQLAlchemy, so that the service is ready a third of a second sooner.
    """

    def __init__(self, url: str, capacity: int, max_bytes: int = 0) -> None:
        self._url, self._capacity, self._max_bytes = checked(url), capacity, max_bytes
        self._rows: deque[Row] = deque()
        self.full = False  # the last prediction found no room; new ones queue up, then are dropped
        self._gone = threading.Event()  # set: no more rows will come
        self._arrived = threading.Event()
        self._abandoned = False  # nobody waits for the writer any more
        self._at_once = AT_ONCE
        self._threads = ThreadPoolExecutor(2, "feedback")
        self._waiting = 0
        self._database: Database | None = None
        self._lock = threading.Lock()  # of `_open`, which the writer and the first feedback may both want
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()

    @property
    def depth(self) -> int:
        """Rows that wait."""
        return len(self._rows)

    def put(self, row: Row) -> None:
        """Queues a prediction, or drops and counts it when the queue is full. Returns at once."""
        if len(self._rows) >= self._capacity:
            metrics.JOURNAL_DROPPED.inc()
            return
        self._rows.append(row)
        if not self._arrived.is_set():
            self._arrived.set()

    async def feedback(self, prediction_id: str, label: int) -> None:
        """Returns once the label is kept. Raises `JournalUnavailable`; at once, where many wait already.

        In threads of its own, so that a database that hangs holds up nothing else.
        """
        if self._waiting >= FEEDBACK_WAITING:
            raise JournalUnavailable(f"{self._waiting} labels wait for the database already")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, self._keep, prediction_id, label)
        finally:
            self._waiting -= 1
        metrics.FEEDBACK.labels(str(label)).inc()

    def _keep(self, prediction_id: str, label: int) -> None:
        try:
            self._open().feedback(prediction_id, label)
        except JournalUnavailable:
            raise
        except Exception as error:
            log.exception("a label could not be kept")
            raise JournalUnavailable(str(error)) from error

    def close(self, within: float) -> None:
        """Writes what is queued, for at most so many seconds; the rest is counted as dropped."""
        self._gone.set()
        self._arrived.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._writer.join(within)
        self._abandoned = True
        self._writer.join(0.5)  # what it is writing now may still succeed
        if self._rows:
            metrics.JOURNAL_DROPPED.inc(len(self._rows))
            log.error("%d predictions are lost: the journal could not be written before the end", len(self._rows))
        if self._database is not None:
            self._database.close()

    def _open(self) -> "Database":
        with self._lock:
            if self._database is None:
                from service.journal.database import Database  # noqa: PLC0415 - see the class

                self._database = Database(self._url, self._max_bytes)
            return self._database

    def _write(self) -> None:
        with suppress(Exception):  # before the first row comes; what is wrong will be said then
            self._open().migrate()
        wait = RETRY[0]
        while not self._abandoned and not (self._gone.is_set() and not self._rows):
            self._arrived.wait()
            self._gone.wait(GATHER)  # for others to come, unless it is the end
            self._arrived.clear()
            while self._rows and not self._abandoned:
                # By index, since iterating fails when the loop appends meanwhile.
                rows = [self._rows[i] for i in range(min(len(self._rows), self._at_once))]
                try:
                    self._open().write(rows)
                except Unwritable as error:
                    self._set_aside(rows, error)
                    continue
                except JournalFull as error:
                    if self._is_full(rows, error):
                        return
                    continue
                except Exception as error:  # noqa: BLE001 - whatever it is, this thread must go on
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
                self._at_once = min(2 * self._at_once, AT_ONCE)
                metrics.JOURNAL_WRITTEN.inc(len(rows))

    def _is_full(self, rows: list[Row], error: Exception) -> bool:
        """Tries half as many rows, down to one, so that the last free page is used; then waits for room.

        True where nobody may wait any longer: the service ends, and the rows that are left count as dropped.
        """
        if len(rows) > 1:
            self._at_once = len(rows) // 2
            return False
        if not self.full:
            log.warning("the journal is full, predictions are queued and then dropped: %s", error)
            self.full = True
        return self._gone.wait(FULL_RETRY)

    def _set_aside(self, rows: list[Row], error: Exception) -> None:
        """A row that the database will never take must not keep the others out: found by halves, and dropped."""
        if len(rows) > 1:
            self._at_once = len(rows) // 2
            return
        log.error("the journal cannot hold prediction %s: %s", rows[0].id, error)
        metrics.JOURNAL_DROPPED.inc()
        self._rows.popleft()
