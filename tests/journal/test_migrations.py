"""Migrations, by the service and by hand."""

import os
import subprocess
import sys
import threading

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from journal import tables
from journal.database import engine
from journal.migrations import configuration, upgrade


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
