"""The journal's database: connections, migrations, one INSERT for many rows. Imported once the service is ready."""

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

from service.ids import new_id
from service.journal import JournalFull, JournalUnavailable, Row, Unwritable, tables

PATIENCE: Final = 5  # seconds for a connection, or for another writer of the same SQLite file
RESERVE: Final = 0.1  # of `NEOCOG_JOURNAL_MAX_BYTES`, kept for labels: predictions stop before
_NO_ROOM: Final = {"SQLITE_FULL", "53100"}  # SQLite's name, PostgreSQL's code (disk_full)


class Database:
    """Whatever goes wrong with it is a `JournalUnavailable`.

    A file of SQLite grows to `max_bytes` by labels, and to nine tenths of that by predictions; 0 sets no bound.
    """

    def __init__(self, url: str, max_bytes: int = 0) -> None:
        self._engine = engine(url)
        self._max_bytes = max_bytes if self._engine.dialect.name == "sqlite" else 0
        self._insertion = _insertion(self._engine)
        self._migrated = False
        self._lock = threading.Lock()  # of the migration, which the writer and the first feedback may both want

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

    def write(self, rows: Sequence[Row]) -> None:
        """All of them or none. Those already there are left as they are."""
        self.migrate()
        try:
            with self._engine.begin() as connection:
                self._bound(connection, 1 - RESERVE)
                connection.exec_driver_sql(*self._statement(rows))
        except (DataError, IntegrityError) as error:
            raise Unwritable(_short(error)) from None
        except SQLAlchemyError as error:
            raise _unavailable(error) from None

    def feedback(self, prediction_id: str, label: int) -> None:
        """Returns once it is kept."""
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
        """How large this transaction may make the file. SQLite binds a connection, so each transaction says it anew."""
        if self._max_bytes:
            page = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count={max(1, int(self._max_bytes * share) // page)}")

    def _statement(self, rows: Sequence[Row]) -> tuple[str, tuple[object, ...]]:
        """One INSERT and its values.

        One statement, since SQLite's driver gives Python's lock away at every one, and gets it back from a busy event
        loop 5 ms later.
        """
        images = tables.pack([row.image for row in rows])
        values = chain.from_iterable((*row[:7], image, row.tag) for row, image in zip(rows, images, strict=True))
        head, one, tail = self._insertion
        return head + ",".join([one] * len(rows)) + tail, tuple(values)


def engine(url: str) -> Engine:
    """For the journal at `url`, which `service.journal.checked` has seen."""
    parsed = make_url(url)
    sqlite = parsed.get_backend_name() == "sqlite"
    if not sqlite:
        parsed = parsed.set(drivername="postgresql+psycopg")
    # Neither keeps prepared statements: an INSERT is another one for each number of rows, and 128 of them were 30 MB.
    # PostgreSQL: a server that says nothing is as gone as one that refuses.
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
    """The database's own words, on one line."""
    return str(getattr(error, "orig", error)).strip().splitlines()[0]
