"""Journals in SQLite and PostgreSQL, for what reads one."""

from tests.journal.conftest import database, either, postgres, url  # noqa: F401 - fixtures
