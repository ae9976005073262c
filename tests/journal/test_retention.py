"""What is removed from the journal, and what stays."""

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from journal import tables
from journal.database import ROOM, Database
from journal.errors import JournalFull
from journal.ids import first_id, new_id
from journal.retention import BATCH, DAY, Retention
from journal.rows import LabelRow
from journal.writer import Journal
from tests.journal.test_writer import row, rows, sqlite
from tests.waiting import until


def made(age, place):
    """A prediction that is `age` days old."""
    moment = time.time() - age * DAY
    return row(id=f"{int(first_id(moment), 16) + place:032x}", time=moment)


def ids(url):
    return {kept.id for kept in rows(url, tables.predictions)}


def test_an_id_sorts_by_the_time_it_was_made():
    before = first_id(time.time())
    assert before < new_id() < first_id(time.time() + 1)
    assert first_id(0) == "0" * 32


def test_what_is_old_and_unlabelled_is_removed_by_the_writer(either):
    old, labelled = [made(8, i) for i in range(3 * BATCH)], {7, BATCH, 3 * BATCH - 1}
    young = [made(6, i) for i in range(10)]
    database = Database(either)
    for start in range(0, len(old), BATCH):
        database.write(old[start : start + BATCH])
    for place in labelled:
        database.feedback(LabelRow(old[place].id, 1))
    database.close()
    removed = []
    journal = Journal(either, 100, days=7, removed=removed.append)
    for prediction in young:
        journal.put(prediction)
    until(lambda: sum(removed) == len(old) - len(labelled))
    until(lambda: journal.depth == 0)
    journal.close(within=60)
    assert ids(either) == {old[place].id for place in labelled} | {kept.id for kept in young}
    assert len(rows(either, tables.feedback)) == len(labelled)


def test_zero_days_keep_all():
    assert Retention(0).wait is None
    Retention(0).step(lambda: pytest.fail("it asked the database"))


def test_a_failure_ends_the_sweep_and_the_next_one_begins_anew(url, caplog):
    retention = Retention(7)
    assert retention.wait == 0
    retention.step(lambda: Database(f"{url}/none/journal.db"))
    assert "old predictions could not be removed" in caplog.text
    assert retention.wait > 1000


def test_replicas_that_remove_at_once_share_the_work(database):
    count = 4 * BATCH
    first = Database(database)
    for start in range(0, count, BATCH):
        first.write([made(8, i) for i in range(start, start + BATCH)])
    before = first_id(time.time())

    def sweep(_):
        replica, last, removed = Database(database), "", 0
        while last is not None:
            done, last = replica.remove(last, before, BATCH)
            removed += done
        replica.close()
        return removed

    with ThreadPoolExecutor(3) as replicas:
        assert sum(replicas.map(sweep, range(3))) == count
    assert ids(database) == set()
    first.close()


def test_removing_passes_by_what_another_replica_has_in_hand(database):
    first, second = Database(database), Database(database)
    predictions = [made(8, i) for i in range(10)]
    first.write(predictions)
    with first._engine.begin() as connection:
        connection.exec_driver_sql("SELECT id FROM predictions ORDER BY id LIMIT 4 FOR UPDATE")
        assert second.remove("", "g", 3) == (3, predictions[6].id)
    assert ids(database) == {kept.id for kept in (*predictions[:4], *predictions[7:])}
    first.close()
    second.close()


MAX = 400_000  # bytes of a bounded journal: some 600 predictions
LABELLED = 20  # each so many-th prediction is labelled


@pytest.mark.slow
def test_a_bounded_journal_keeps_the_newest_predictions_and_all_labels(url):
    """Three times as much as it holds is written."""
    removed, written, kept, labels = [], [], [], set()
    journal = Journal(url, 10_000, MAX, removed=removed.append, written=written.append)
    while sum(written) < 3 * (sum(written) - sum(removed)) or not removed:
        for _ in range(100):
            kept.append(row())
            journal.put(kept[-1])
        until(lambda: journal.depth == 0)
        for prediction in kept[-100::LABELLED]:
            asyncio.run(journal.feedback(LabelRow(prediction.id, 3)))
            labels.add(prediction.id)
    journal.close(within=30)
    found = ids(url)
    unlabelled = sorted(found - labels)
    newest = sorted(prediction.id for prediction in kept if prediction.id not in labels)[-len(unlabelled) :]
    assert not journal.full
    assert labels <= found
    assert {label.prediction_id for label in rows(url, tables.feedback)} == labels
    assert unlabelled == newest
    assert len(found) > 250
    assert sqlite(url, "PRAGMA page_count") * 4096 <= MAX


@pytest.mark.slow
def test_a_label_finds_room_where_a_prediction_would(url):
    database = Database(url, 200_000)
    database.write([row() for _ in range(100)])
    for _ in range(200_000 // 73):  # a label's own bytes, so more than there can be room for
        try:
            database.feedback(LabelRow("f" * 32, 1))
        except JournalFull:
            break
    assert ids(url) == set()
    database.close()


@pytest.mark.slow
def test_labelled_predictions_are_passed_over_in_search_of_room(url):
    database, labelled = Database(url, 200_000), [row() for _ in range(2 * ROOM)]
    database.write(labelled)
    for prediction in labelled:
        database.feedback(LabelRow(prediction.id, 3))
    for _ in range(400):
        database.write([row()])
    assert ids(url) > {prediction.id for prediction in labelled}
    database.close()


def test_without_a_bound_nothing_makes_room(url):
    database = Database(url)
    database.write([row()])
    assert not database._make_room(10)
    assert len(ids(url)) == 1
    database.close()


@pytest.mark.slow
def test_by_hand(url, monkeypatch):
    database = Database(url)
    predictions = [made(age, age) for age in (30, 20, 10, 1)]
    database.write(predictions)
    database.feedback(LabelRow(predictions[0].id, 1))
    database.close()
    monkeypatch.setenv("NEOCOG_JOURNAL", url)
    for days, said in (("15", "1 predictions are removed\n"), ("15", "0 predictions are removed\n")):
        ran = subprocess.run([sys.executable, "-m", "journal.retention", days], capture_output=True, text=True)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, said, "")
    assert ids(url) == {predictions[place].id for place in (0, 2, 3)}
    monkeypatch.setenv("NEOCOG_JOURNAL", "off")
    ran = subprocess.run([sys.executable, "-m", "journal.retention", "1"], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (1, "neocog: NEOCOG_JOURNAL is 'off': there is no journal\n")
