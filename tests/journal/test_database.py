"""Two workers write one SQLite file, and somebody deletes it or a part of it."""

import subprocess
import sys

import pytest

from journal import tables
from tests.journal.test_writer import rows

# Keeps a label for each line it reads, and says whether that is acknowledged.
WORKER = """
import sys
from journal.database import Database
from journal.errors import JournalUnavailable
from journal.rows import LabelRow
database = Database(sys.argv[1])
for line in sys.stdin:
    try:
        database.feedback(LabelRow(line.strip(), 1))
        print("kept", flush=True)
    except JournalUnavailable:
        print("refused", flush=True)
"""


class Worker:
    """A process with a journal of its own on the file."""

    def __init__(self, url):
        command = [sys.executable, "-c", WORKER, url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def keeps(self, identity):
        self._process.stdin.write(f"{identity}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline() == "kept\n"

    def kill(self):
        self._process.kill()
        self._process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    "gone",
    [["-wal"], ["-shm"], ["-wal", "-shm"], [""], ["", "-wal", "-shm"]],
    ids=lambda gone: " ".join(gone) or "file",
)
def test_what_either_worker_acknowledges_is_in_the_file_that_has_the_path(tmp_path, url, gone):
    workers = [Worker(url), Worker(url)]
    assert all(worker.keeps(f"{place:032x}") for place, worker in enumerate(workers))
    for suffix in gone:
        (tmp_path / f"journal.db{suffix}").unlink()
    asked = {f"{100 + turn:032x}": workers[turn // 2 % 2 if turn > 7 else turn % 2] for turn in range(16)}
    kept = {identity for identity, worker in asked.items() if worker.keeps(identity)}
    assert len(kept) >= 8  # SQLite may refuse some with an error, until both workers have noticed
    assert {row.prediction_id for row in rows(url, tables.feedback)} >= kept
    for worker in workers:
        worker.kill()
    assert {row.prediction_id for row in rows(url, tables.feedback)} >= kept
