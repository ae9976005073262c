"""Migrations, by the service and by hand."""

import os
import subprocess
import sys
import threading

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from journal import tables
from journal.database import engine
from journal.migrations import configuration, upgrade
from journal.rows import LabelRow
from journal.writer import Journal
from tests.journal.test_writer import keeps
from tests.waiting import until


def test_migrations_make_what_the_tables_say(either):
    made = engine(either)
    upgrade(made)
    upgrade(made)  # a second time changes nothing
    with made.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), tables.metadata) == []
    made.dispose()
    assert ScriptDirectory.from_config(configuration()).get_current_head() == tables.HEAD


def test_replicas_that_start_together_migrate_once(either):
    failed = []

    def start():
        made = engine(either)
        try:
            upgrade(made)
        except Exception as error:  # noqa: BLE001
            failed.append(error)
        made.dispose()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_by_hand(url):
    env = {**os.environ, "NEOCOG_JOURNAL": url}
    ran = subprocess.run(
        [sys.executable, "-m", "journal.migrations"], env=env, capture_output=True, text=True, timeout=300
    )
    assert (ran.returncode, ran.stdout) == (0, f"the journal is at revision {tables.HEAD}\n")


def to(revision, made):
    """Migrates to an older revision, as the code of that time did."""
    config = configuration()
    with made.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_what_was_kept_before_revision_2_stays_and_gets_the_defaults(either):
    made = engine(either)
    to("0001", made)
    with made.begin() as connection:
        connection.execute(sa.text("INSERT INTO feedback (id, prediction_id, time, label) VALUES ('a', 'b', 1.5, 7)"))
    upgrade(made)
    with made.connect() as connection:
        (row,) = connection.execute(sa.select(tables.feedback)).all()
    made.dispose()
    assert row == ("a", "b", 1.5, 7, None, "caller", "volunteered", None, None)


def test_code_goes_on_beside_the_newer_revision_of_a_newer_replica(either):
    made = engine(either)
    upgrade(made)
    with made.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    journal = Journal(either, 10)
    until(lambda: keeps(journal, LabelRow("a" * 32, 1)))
    journal.close(within=30)
    with made.connect() as connection:
        assert connection.execute(sa.select(tables.feedback.c.label)).scalars().all() == [1]
    made.dispose()
