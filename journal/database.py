"""The journal's database: connections, migrations, one INSERT for many rows.

The service imports this module once it is ready, since SQLAlchemy takes a third of a second.
"""

import logging
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import URL, Connection, Engine, Table, create_engine, delete, event, exists, make_url, select, text
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from journal import tables
from journal.deadlines import within
from journal.errors import JournalFull, JournalSilent, JournalUnavailable, RowRefused
from journal.ids import new_id
from journal.rows import LabelRow, PredictionRow
from journal.urls import VARIABLE

log = logging.getLogger("neocog.journal")

PATIENCE: Final = 5  # seconds to wait for a connection, for a label's commit, or for another writer of the SQLite file
WRITING: Final = 10  # seconds to wait for the commit of many rows
MIGRATING: Final = 60  # seconds that a migration may take
REOPENED: Final = 3  # times that SQLite's file is opened anew for one commit, where it is replaced again and again
RESERVE: Final = 0.1  # share of `max_bytes` that only labels may use
ROOM: Final = 50  # predictions that make room at a time, at least: looking for each one alone would take long
LOOKS: Final = 20  # batches of labelled predictions that are passed over at a time, in search of unlabelled ones
_LAST: Final = "g"  # sorts after every id
_NO_ROOM: Final = {"SQLITE_FULL", "53100"}  # SQLite's name; PostgreSQL's code for disk_full
_NO_ANSWER: Final = {"SQLITE_BUSY", "Silent", "ConnectionTimeout", "TimeoutError"}  # SQLite's name; classes of errors
_FILES: Final = "files"  # of an SQLite connection: the identity that each of its files had when it was opened

T = TypeVar("T")
_Identity = tuple[int, int] | None


class Removed(NamedTuple):
    """What `Database.remove` did."""

    removed: int  # predictions
    last: str | None  # the id of the last prediction it looked at; None where there is none to look at


class Database:
    """Every method raises `JournalUnavailable` where the database does not do what is asked.

    `max_bytes` bounds the file of SQLite; predictions may fill nine tenths of it. Where they do, the oldest that nobody
    labelled make room. 0 sets no bound. `removed` is called with the number of predictions that were removed.
    """

    def __init__(self, url: str, max_bytes: int = 0, removed: Callable[[int], object] = int) -> None:
        self._engine = engine(url)
        self._removed = removed
        self._oldest = ""  # those before this id that made no room are labelled
        self._max_bytes = max_bytes if self._engine.dialect.name == "sqlite" else 0
        self._insertion = _insertion(self._engine)
        self._migrated = False  # as far as is known; after a failure it is found out again
        self._lock = threading.Lock()  # the writer and the first feedback may both start the migration
        self.migrating = False

    def migrate(self) -> None:
        with self._lock:
            if self._migrated:
                return
            try:
                with within(PATIENCE):
                    revision = _revision(self._engine)
                # A newer revision is a newer replica's, in a rolling update: it only adds, so this one may go on.
                if revision is None or revision < tables.HEAD:
                    self.migrating = True
                    _upgrade(self._engine.url)
            except SQLAlchemyError as error:
                raise _unavailable(error) from None
            finally:
                self.migrating = False
            self._migrated = True

    def write(self, rows: Sequence[PredictionRow]) -> None:
        """Writes all rows or none. A row that is already there stays as it is."""
        statement, values = self._statement(rows)
        self._commit_making_room(
            1 - RESERVE, WRITING, lambda connection: connection.exec_driver_sql(statement, values), max(len(rows), ROOM)
        )

    def feedback(self, label: LabelRow) -> None:
        """Returns once the label is committed."""
        row = {"id": new_id(), "time": time.time(), **label._asdict()}
        statement = _tolerant(self._engine, tables.feedback).values(row)
        self._commit_making_room(1, PATIENCE, lambda connection: connection.execute(statement), ROOM)

    def ask(self, question: Callable[[Connection], T]) -> T:
        """What `question` reads. It is asked again where SQLite's file was replaced meanwhile."""
        answers: list[T] = []
        self._commit(1, PATIENCE, lambda connection: answers.append(question(connection)))
        return answers[-1]

    def remove(self, after: str, before: str, most: int) -> Removed:
        """Looks at the `most` oldest predictions with ids between `after` and `before`; removes those without a label.

        Replicas that do so at once look at different rows of PostgreSQL, and none waits for another.
        """
        looked = (
            select(tables.predictions.c.id)
            .where(tables.predictions.c.id > after, tables.predictions.c.id < before)
            .order_by(tables.predictions.c.id)
            .limit(most)
            .with_for_update(skip_locked=True)  # SQLite, which has one writer, ignores it
        )
        labelled = exists().where(tables.feedback.c.prediction_id == tables.predictions.c.id)
        found: list[str] = []
        counts: list[int] = []

        def statement(connection: Connection) -> None:
            found[:] = connection.execute(looked).scalars()
            unlabelled = delete(tables.predictions).where(tables.predictions.c.id.in_(found), ~labelled)
            counts[:] = [connection.execute(unlabelled).rowcount if found else 0]

        self._commit(1, WRITING, statement)
        self._removed(counts[0])
        return Removed(counts[0], found[-1] if found else None)

    def close(self) -> None:
        self._engine.dispose()

    def _commit_making_room(
        self, share: float, seconds: float, statement: Callable[[Connection], object], most: int
    ) -> None:
        """Commits `statement`. Where there is no room for it, predictions are removed first, `most` at a time."""
        while True:
            try:
                self._commit(share, seconds, statement)
            except JournalFull:
                if not self._make_room(most):
                    raise
            else:
                return

    def _make_room(self, most: int) -> bool:
        """Removes some of the oldest unlabelled predictions, at most `most`. False where it finds none.

        SQLite uses their pages again. Where no bound is set, the disk is full: what is kept stays.
        """
        for _ in range(LOOKS if self._max_bytes else 0):
            removed, last = self.remove(self._oldest, _LAST, most)
            self._oldest = last or ""
            if removed or last is None:
                return removed > 0
        return False

    def _commit(self, share: float, seconds: float, statement: Callable[[Connection], object]) -> None:
        """Commits `statement`. In SQLite, into the file that has the journal's path before and after that."""
        try:
            for _ in range(REOPENED + 1):
                if self._committed(share, seconds, statement):
                    return
                self._migrated = False
                log.warning("the journal's file was moved, replaced or deleted, and is opened anew")
        except (DataError, IntegrityError) as error:
            raise RowRefused(_short(error)) from None
        except SQLAlchemyError as error:
            self._migrated = False
            raise _unavailable(error) from None
        raise JournalUnavailable("the journal's file is replaced again and again")

    def _committed(self, share: float, seconds: float, statement: Callable[[Connection], object]) -> bool:
        """False where the open file is not the one that has the path. Its connection is then closed."""
        self.migrate()
        with within(seconds), self._engine.connect() as connection:
            if _in_place(connection.info):
                with connection.begin():
                    self._bound(connection, share)
                    statement(connection)
                if _in_place(connection.info):
                    return True
            _leave(connection)
            return False

    def _bound(self, connection: Connection, share: float) -> None:
        """Sets how large this transaction may make the file. SQLite keeps the bound for each connection."""
        if self._max_bytes:
            page = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={max(1, int(self._max_bytes * share) // page)}")

    def _statement(self, rows: Sequence[PredictionRow]) -> tuple[str, tuple[object, ...]]:
        """One INSERT for all rows, and its values.

        SQLite's driver releases Python's lock for each statement, and gets it back from a busy event loop 5 ms later.
        """
        images = tables.pack([row.image for row in rows])
        values = chain.from_iterable(
            (*row[:7], image, row.tag, row.caller) for row, image in zip(rows, images, strict=True)
        )
        head, one, tail = self._insertion
        return head + ",".join([one] * len(rows)) + tail, tuple(values)


def engine(url: str) -> Engine:
    """An engine for the journal at `url`, which `journal.urls.checked` has returned."""
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if not sqlite:
        parsed = parsed.set(drivername="postgresql+psycopg")
    # No prepared statements are kept: each number of rows is another INSERT, and 128 of them took 30 MB.
    # PostgreSQL has deadlines: a server that does not answer is as unavailable as one that refuses.
    arguments: dict[str, Any] = {"timeout": PATIENCE, "cached_statements": 0} if sqlite else {
        "connect_timeout": PATIENCE, "tcp_user_timeout": PATIENCE * 1000, "options": "-c statement_timeout=10s",
        "prepare_threshold": None,
    }  # fmt: skip
    style = "qmark" if sqlite else "format"  # by position, for `_insertion`
    # One connection for SQLite, which has one writer at a time: a file that was replaced can be opened safely only once
    # this process has closed the old one, since SQLite would use its locks and its index for the new one, too.
    pool: dict[str, Any] = {"pool_size": 1, "max_overflow": 0} if sqlite else {"pool_pre_ping": True}
    made = create_engine(
        parsed, connect_args=arguments, pool_timeout=PATIENCE, hide_parameters=True, paramstyle=style, **pool
    )
    event.listen(made, "do_connect", _connect_sqlite if sqlite else _connect_postgres)
    return made


def _connect_postgres(_: object, __: object, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
    from journal.postgres import Connection  # noqa: PLC0415 - psycopg is an extra

    return Connection.connect(*arguments, **options)


def _connect_sqlite(dialect: Any, record: Any, arguments: Sequence[Any], options: dict[str, Any]) -> sqlite3.Connection:
    """Opens the file, and notes which one that is.

    It sets WAL: readers and the writer do not wait for one another, and a killed process loses nothing committed.
    """
    path = arguments[0]
    for _ in range(REOPENED + 1):
        before = _identity(path)
        connection: sqlite3.Connection = dialect.connect(*arguments, **options)
        if before is not None and before == _identity(path):  # else it is new, or replaced: is it the one just opened?
            break
        connection.close()
    else:
        raise sqlite3.OperationalError(f"{path} is replaced again and again")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    (_, _, real), *_ = connection.execute("PRAGMA database_list")  # where the path leads by way of symbolic links
    connection.execute("SELECT 1 FROM sqlite_master").fetchall()  # opens the two other files
    record.info[_FILES] = {path: before} | {name: _identity(name) for name in (f"{real}-wal", f"{real}-shm")}
    return connection


def _identity(path: str) -> _Identity:
    """Which file has the path. None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - twice for each commit
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _in_place(info: Mapping[str, Any]) -> bool:
    """Whether every file of a connection still has its path."""
    return all(_identity(path) == identity for path, identity in info.get(_FILES, {}).items())


def _leave(connection: Connection) -> None:
    """Closes a file that is no longer in its place.

    It removes the log and the index that the file left there: SQLite would take them for the new file's.
    """
    files = dict(connection.info[_FILES])
    with suppress(SQLAlchemyError):  # where only the log was deleted, this saves what it holds
        connection.exec_driver_sql("PRAGMA wal_checkpoint")
    connection.invalidate()
    (path, identity), *others = files.items()
    if _identity(path) != identity:
        for name, its in others:
            if its is not None and _identity(name) == its:
                Path(name).unlink(missing_ok=True)


def _tolerant(of: Engine, table: Table) -> Any:
    """An INSERT that lets a row stay which is already there. A commit whose answer was lost is repeated."""
    dialect = import_module(f"sqlalchemy.dialects.{of.dialect.name}")  # only the one in use: each takes 2 MB
    return dialect.insert(table).on_conflict_do_nothing()


def _insertion(of: Engine) -> tuple[str, str, str]:
    """An INSERT in the database's dialect, in three parts: before a row's values, the values, after them.

    It is compiled once, since SQLAlchemy's usual path takes as long for a row as SQLite does.
    """
    compiled = str(_tolerant(of, tables.predictions).compile(dialect=of.dialect))
    head, values, tail = compiled.partition(" VALUES ")
    one, on, conflict = tail.partition(" ON CONFLICT")
    return head + values, one, on + conflict


def _upgrade(url: URL) -> None:
    """Migrates in a process of its own: Alembic is needed once, and would stay in memory for good."""
    env = {**os.environ, VARIABLE: url.render_as_string(hide_password=False)}
    command = [sys.executable, "-m", "journal.migrations"]
    try:
        ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=MIGRATING)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SQLAlchemyError(str(error)) from None
    if ran.returncode:
        raise SQLAlchemyError((ran.stderr.strip().splitlines() or ["the journal could not be migrated"])[-1])


def _revision(of: Engine) -> str | None:
    with of.connect() as connection:
        with suppress(SQLAlchemyError):  # no such table
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        connection.rollback()
        connection.execute(text("SELECT 1"))  # raises when it is the database that is missing
        return None


def _unavailable(error: SQLAlchemyError) -> JournalUnavailable:
    said = getattr(error, "orig", None)
    code = getattr(said, "sqlite_errorname", None) or getattr(said, "sqlstate", None)
    if code in _NO_ROOM:
        return JournalFull(_short(error))
    silent = code in _NO_ANSWER or type(said or error).__name__ in _NO_ANSWER
    return (JournalSilent if silent else JournalUnavailable)(_short(error))


def _short(error: Exception) -> str:
    """The first line of the database's own message."""
    return str(getattr(error, "orig", error)).strip().splitlines()[0]
