"""The journal's database: connections, migrations, one INSERT for many rows. Imported once the service is ready."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from itertools import chain
from typing import Any, Final

from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from service.ids import new_id
from service.journal import JournalUnavailable, Row, Unwritable, tables

PATIENCE: Final = 5  # seconds for a connection, or for another writer of the same SQLite file


class Database:
    """Whatever goes wrong with it is a `JournalUnavailable`."""

    def __init__(self, url: str, max_bytes: int = 0) -> None:
        self._engine = engine(url, max_bytes)
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
                raise JournalUnavailable(_short(error)) from None
            self._migrated = True

    def write(self, rows: Sequence[Row]) -> None:
        """All of them or none. Those already there are left as they are."""
        self.migrate()
        try:
            with self._engine.begin() as connection:
                connection.exec_driver_sql(*self._statement(rows))
        except (DataError, IntegrityError) as error:
            raise Unwritable(_short(error)) from None
        except SQLAlchemyError as error:
            raise JournalUnavailable(_short(error)) from None

    def feedback(self, prediction_id: str, label: int) -> None:
        """Returns once it is kept."""
        self.migrate()
        row = {"id": new_id(), "prediction_id": prediction_id, "time": time.time(), "label": label}
        try:
            with self._engine.begin() as connection:
                connection.execute(tables.feedback.insert(), row)
        except SQLAlchemyError as error:
            raise JournalUnavailable(_short(error)) from None

    def close(self) -> None:
        self._engine.dispose()

    def _statement(self, rows: Sequence[Row]) -> tuple[str, tuple[object, ...]]:
        """One INSERT and its values.

        One statement, since SQLite's driver gives Python's lock away at every one, and gets it back from a busy event
        loop 5 ms later.
        """
        images = tables.pack([row.image for row in rows])
        values = chain.from_iterable((*row[:7], image, row.tag) for row, image in zip(rows, images, strict=True))
        head, one, tail = self._insertion
        return head + ",".join([one] * len(rows)) + tail, tuple(values)


def engine(url: str, max_bytes: int = 0) -> Engine:
    """For the journal at `url`, which `service.journal.checked` has seen; SQLite's grows to `max_bytes`, unless 0."""
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
        event.listen(made, "connect", partial(_prepare_sqlite, max_bytes=max_bytes))
    return made


def _prepare_sqlite(connection: Any, _: object, *, max_bytes: int) -> None:
    """WAL: readers and the writer don't wait for one another, and a killed process loses nothing committed."""
    if max_bytes:
        page = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={max(1, max_bytes // page)}")
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


def _short(error: Exception) -> str:
    """The database's own words, on one line."""
    return str(getattr(error, "orig", error)).strip().splitlines()[0]
