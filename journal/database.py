"""The journal's database: connections, migrations, one INSERT for many rows.

The service imports this module once it is ready, since SQLAlchemy takes a third of a second.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from itertools import chain
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from journal import tables
from journal.errors import JournalFull, JournalUnavailable, RowRefused
from journal.ids import new_id
from journal.rows import PredictionRow
from journal.urls import VARIABLE

PATIENCE: Final = 5  # seconds to wait for a connection, or for another writer of the same SQLite file
RESERVE: Final = 0.1  # share of `max_bytes` that only labels may use
_NO_ROOM: Final = {"SQLITE_FULL", "53100"}  # SQLite's name; PostgreSQL's code for disk_full


class Database:
    """Every method raises `JournalUnavailable` where the database does not do what is asked.

    `max_bytes` bounds the file of SQLite; predictions may fill nine tenths of it. 0 sets no bound.
    """

    def __init__(self, url: str, max_bytes: int = 0) -> None:
        self._engine = engine(url)
        self._max_bytes = max_bytes if self._engine.dialect.name == "sqlite" else 0
        self._insertion = _insertion(self._engine)
        self._migrated = False
        self._lock = threading.Lock()  # the writer and the first feedback may both start the migration

    def migrate(self) -> None:
        with self._lock:
            if self._migrated:
                return
            try:
                if _revision(self._engine) != tables.HEAD:
                    _upgrade(self._engine.url)
            except SQLAlchemyError as error:
                raise _unavailable(error) from None
            self._migrated = True

    def write(self, rows: Sequence[PredictionRow]) -> None:
        """Writes all rows or none. A row that is already there stays as it is."""
        self.migrate()
        try:
            with self._engine.begin() as connection:
                self._bound(connection, 1 - RESERVE)
                connection.exec_driver_sql(*self._statement(rows))
        except (DataError, IntegrityError) as error:
            raise RowRefused(_short(error)) from None
        except SQLAlchemyError as error:
            raise _unavailable(error) from None

    def feedback(self, prediction_id: str, label: int) -> None:
        """Returns once the label is committed."""
        self.migrate()
        row = {"id": new_id(), "prediction_id": prediction_id, "time": time.time(), "label": label}
        try:
            with self._engine.begin() as connection:
                self._bound(connection, 1)
                connection.execute(tables.feedback.insert(), row)
        except SQLAlchemyError as error:
            raise _unavailable(error) from None

    def close(self) -> None:
        self._engine.dispose()

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
        values = chain.from_iterable((*row[:7], image, row.tag) for row, image in zip(rows, images, strict=True))
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
    made = create_engine(
        parsed, connect_args=arguments, pool_pre_ping=not sqlite, pool_timeout=PATIENCE, hide_parameters=True,
        paramstyle=style,
    )  # fmt: skip
    if sqlite:
        event.listen(made, "connect", _prepare_sqlite)
    return made


def _prepare_sqlite(connection: Any, _: object) -> None:
    """Sets WAL: readers and the writer do not wait for one another, and a killed process loses nothing committed."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _insertion(of: Engine) -> tuple[str, str, str]:
    """An INSERT in the database's dialect, in three parts: before a row's values, the values, after them.

    It is compiled once, since SQLAlchemy's usual path takes as long for a row as SQLite does. Rows that are already
    there stay, since the writer repeats a commit whose answer was lost.
    """
    dialect = import_module(f"sqlalchemy.dialects.{of.dialect.name}")  # only the one in use: each takes 2 MB
    compiled = str(dialect.insert(tables.predictions).on_conflict_do_nothing().compile(dialect=of.dialect))
    head, values, tail = compiled.partition(" VALUES ")
    one, on, conflict = tail.partition(" ON CONFLICT")
    return head + values, one, on + conflict


def _upgrade(url: URL) -> None:
    """Migrates in a process of its own: Alembic is needed once, and would stay in memory for good."""
    env = {**os.environ, VARIABLE: url.render_as_string(hide_password=False)}
    command = [sys.executable, "-m", "journal.migrations"]
    try:
        ran = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
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
    return (JournalFull if code in _NO_ROOM else JournalUnavailable)(_short(error))


def _short(error: Exception) -> str:
    """The first line of the database's own message."""
    return str(getattr(error, "orig", error)).strip().splitlines()[0]
