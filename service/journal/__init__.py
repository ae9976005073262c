"""Every prediction and every feedback, in SQL: SQLite by default, PostgreSQL by URL.

Predictions never wait for the database: `Journal.put` appends to a bounded queue, and one thread writes it in batches.
When the database is away the queue holds and drains afterwards; what finds it full is dropped and counted. Feedback is
worth more than a prediction, and rarer: it is written before it is acknowledged.
"""

import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from importlib import import_module
from itertools import chain
from typing import Any, Final, NamedTuple

from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from service import metrics
from service.ids import new_id
from service.journal import tables
from service.settings import SettingsError

log = logging.getLogger("neocog.journal")

OFF: Final = "off"
AT_ONCE: Final = 500  # rows of one INSERT
GATHER: Final = 0.25  # seconds the writer lets rows come together
RETRY: Final = (0.1, 2.0)  # seconds after a failure: at first, at most
PATIENCE: Final = 5  # seconds for a connection, or for another writer of the same SQLite file


class JournalUnavailable(Exception):
    """The database cannot be written to now."""


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


class Journal:
    """The queue and the thread that empties it. Raises `SettingsError` for a URL no database can be meant by."""

    def __init__(self, url: str, capacity: int) -> None:
        self._engine = engine(url)
        self._insertion = _insertion(self._engine)
        self._capacity = capacity
        self._rows: deque[Row] = deque()
        self._gone = threading.Event()  # set: no more rows will come
        self._arrived = threading.Event()
        self._migrated = False
        self._lock = threading.Lock()  # of the migration, which the writer and the first feedback may both want
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

    def feedback(self, prediction_id: str, label: int) -> None:
        """Writes a label and returns once it is kept. Blocks; raises `JournalUnavailable`."""
        row = {"id": new_id(), "prediction_id": prediction_id, "time": time.time(), "label": label}
        try:
            self._migrate()
            with self._engine.begin() as connection:
                connection.execute(tables.feedback.insert(), row)
        except SQLAlchemyError as error:
            raise JournalUnavailable(_short(error)) from None
        metrics.FEEDBACK.labels(str(label)).inc()

    def close(self, within: float) -> None:
        """Writes what is queued, for at most so many seconds; the rest is counted as dropped."""
        self._gone.set()
        self._arrived.set()
        self._writer.join(within)
        if self._rows:
            metrics.JOURNAL_DROPPED.inc(len(self._rows))
            log.error("%d predictions are lost: the journal could not be written before the end", len(self._rows))
        self._engine.dispose()

    def _write(self) -> None:
        with suppress(SQLAlchemyError):  # before the first row comes; what is wrong will be said then
            self._migrate()
        wait = RETRY[0]
        while not (self._gone.is_set() and not self._rows):
            self._arrived.wait()
            self._gone.wait(GATHER)  # for others to come, unless it is the end
            self._arrived.clear()
            while self._rows:
                count = min(len(self._rows), AT_ONCE)
                try:
                    self._migrate()
                    with self._engine.begin() as connection:
                        connection.exec_driver_sql(*self._statement(count))
                except SQLAlchemyError as error:
                    if wait == RETRY[0]:
                        log.warning("the journal cannot be written, predictions are queued: %s", _short(error))
                    time.sleep(wait)
                    wait = min(2 * wait, RETRY[1])
                    continue
                if wait != RETRY[0]:
                    log.warning("the journal is written again")
                    wait = RETRY[0]
                for _ in range(count):
                    self._rows.popleft()
                metrics.JOURNAL_WRITTEN.inc(count)

    def _statement(self, count: int) -> tuple[str, tuple[object, ...]]:
        """One INSERT of the oldest rows, and its values.

        By index, since iterating fails when the loop appends meanwhile. One statement, since SQLite's driver gives
        Python's lock away at every one, and gets it back from a busy event loop 5 ms later.
        """
        rows = [self._rows[i] for i in range(count)]
        images = tables.pack([row.image for row in rows])
        values = chain.from_iterable((*row[:7], image, row.tag) for row, image in zip(rows, images, strict=True))
        head, one, tail = self._insertion
        return head + ",".join([one] * count) + tail, tuple(values)

    def _migrate(self) -> None:
        if self._migrated:
            return
        with self._lock:
            if not self._migrated and _revision(self._engine) != tables.HEAD:
                _upgrade(self._engine.url)
            self._migrated = True


def engine(url: str) -> Engine:
    """For the journal at `url`. Raises `SettingsError`."""
    try:
        parsed: URL = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        backend = parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise ArgumentError(backend)
        # PostgreSQL: a server that says nothing is as gone as one that refuses.
        arguments = {"timeout": PATIENCE} if backend == "sqlite" else {
            "connect_timeout": PATIENCE, "tcp_user_timeout": PATIENCE * 1000, "options": "-c statement_timeout=30s"
        }  # fmt: skip
        made = create_engine(
            parsed, connect_args=arguments, pool_pre_ping=backend == "postgresql", hide_parameters=True,
            paramstyle="qmark" if backend == "sqlite" else "format",  # by position, for `_insertion`
        )  # fmt: skip
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError):
        allowed = "sqlite:///FILE, postgresql://USER@HOST/DATABASE (pip install 'neocog[postgres]'), or off"
        raise SettingsError(f"NEOCOG_JOURNAL is {_without_password(url)!r}, allowed is: {allowed}") from None
    if backend == "sqlite":
        event.listen(made, "connect", _prepare_sqlite)
    return made


def _prepare_sqlite(connection: Any, _: object) -> None:
    """WAL: readers and the writer don't wait for one another, and a killed process loses nothing committed."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _insertion(of: Engine) -> tuple[str, str, str]:
    """An INSERT in the database's own words: what comes before a row's values, those, and what comes after.

    Compiled once: SQLAlchemy's own path takes as long for a row as SQLite. Rows already there are left, since a commit
    whose answer was lost is tried again.
    """
    dialect = import_module(f"sqlalchemy.dialects.{of.dialect.name}")  # the one in use; each takes 2 MB
    compiled = str(dialect.insert(tables.predictions).on_conflict_do_nothing().compile(dialect=of.dialect))
    head, values, tail = compiled.partition(" VALUES ")
    one, on, conflict = tail.partition(" ON CONFLICT")
    return head + values, one, on + conflict


def _upgrade(url: URL) -> None:
    """In a process of its own: Alembic is needed once in a journal's life, and would stay in memory for all of it."""
    env = {**os.environ, "NEOCOG_JOURNAL": url.render_as_string(hide_password=False)}
    command = [sys.executable, "-m", "service.journal.migrations"]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SQLAlchemyError((ran.stderr.strip().splitlines() or ["the journal could not be migrated"])[-1])


def _revision(of: Engine) -> str | None:
    with of.connect() as connection:
        with suppress(SQLAlchemyError):  # no such table
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        connection.rollback()
        connection.execute(text("SELECT 1"))  # raises when it is the database that is missing
        return None


def _short(error: Exception) -> str:
    """The database's own words, on one line."""
    return str(getattr(error, "orig", error)).strip().splitlines()[0]


def _without_password(url: str) -> str:
    with suppress(ArgumentError):
        return make_url(url).render_as_string(hide_password=True)
    return url.partition("@")[0].partition("://")[0] + "://…" if "@" in url else url
