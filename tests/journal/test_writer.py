"""What is kept of every prediction and every feedback: in SQLite, and in a real PostgreSQL that comes and goes."""

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import pytest
import sqlalchemy as sa
from sqlalchemy import event

from journal import tables
from journal.database import RESERVE, Database, engine
from journal.errors import JournalFull, JournalSilent, JournalUnavailable
from journal.ids import new_id
from journal.migrations import upgrade
from journal.rows import TAG, LabelRow, PredictionRow
from journal.writer import ROW_BYTES, Journal
from model.canonical import canonical
from service.callers import Callers
from tests.bundles import DIGITS, png
from tests.service.memory import grown
from tests.waiting import until

PICTURES = [png(digit) for digit in DIGITS]
ID = "019a1b2c3d4e7f60a1b2c3d4e5f60718"


def rows(url, table):
    made = engine(url)
    with made.connect() as connection:
        found = connection.execute(sa.select(table)).all()
    made.dispose()
    return found


def row(**changes):
    values = {
        "id": new_id(), "time": time.time(), "model_version": "m", "digit": 3, "confidence": 0.5,
        "probabilities": bytes(40), "abstained": False, "image": DIGITS[3].tobytes(), "tag": None,
    }  # fmt: skip
    return PredictionRow(**values | changes)


def test_predictions_and_feedback_are_kept_whole(serve, either):
    service = serve(journal=either, caller_secret="secret")
    answers = [service.http.post("/predict", content=data, headers={"X-Tag": "a tag"}).json() for data in PICTURES]
    said = {"prediction_id": answers[4]["prediction_id"], "label": 9}
    response = service.http.post("/feedback", json=said)
    assert (response.status_code, response.json()) == (201, said)
    assert service.stop() == 0
    kept = {row.id: row for row in rows(either, tables.predictions)}
    assert len(kept) == 10
    for data, answer in zip(PICTURES, answers, strict=True):
        row = kept[answer["prediction_id"]]
        assert (row.digit, row.abstained, row.model_version) == (
            answer["digit"], answer["abstained"], answer["model_version"],
        )  # fmt: skip
        assert row.tag == "a tag"
        assert row.caller == Callers("secret").hashed("127.0.0.1")
        assert abs(row.time - time.time()) < 600
        assert np.frombuffer(row.probabilities, "<f4").tolist() == pytest.approx(answer["probabilities"], abs=1e-7)
        import io

        from PIL import Image

        assert np.array_equal(tables.unpack(row.image), canonical(Image.open(io.BytesIO(data))))
    (label,) = rows(either, tables.feedback)
    assert (label.prediction_id, label.label) == (answers[4]["prediction_id"], 9)
    assert (label.by, label.role, label.asked) == (Callers("secret").hashed("127.0.0.1"), "caller", "volunteered")
    assert (label.seconds, label.blind) == (None, None)


def test_v2_and_batch_are_kept_too(serve, url):
    service = serve(journal=url)
    service.http.post("/predict/batch", files=[("image", ("d", data)) for data in PICTURES])
    tensor = {"name": "image", "datatype": "UINT8", "shape": [3, 1, 28, 28], "data": DIGITS[:3].ravel().tolist()}
    service.http.post("/v2/models/digits/infer", json={"inputs": [tensor]})
    assert service.stop() == 0
    kept = rows(url, tables.predictions)
    assert len(kept) == 13
    assert {row.caller for row in kept} == {Callers("").hashed("127.0.0.1")}


def test_what_is_queued_is_written_at_the_end(url):
    journal = Journal(url, 10_000)
    for _ in range(5000):
        journal.put(row())
    journal.close(within=30)
    assert len(rows(url, tables.predictions)) == 5000


def test_a_row_that_cannot_be_written_keeps_no_other_out(database):
    journal = Journal(database, 1000)
    bad = [row(tag="a\0b"), row(tag="\0")]
    for entry in [*(row() for _ in range(150)), bad[0], *(row() for _ in range(150)), bad[1]]:
        journal.put(entry)
    journal.close(within=30)
    assert len(rows(database, tables.predictions)) == 300


def test_a_full_queue_drops_and_counts(tmp_path, url):
    made = engine(url)
    upgrade(made)
    made.dispose()
    holder = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")  # another writer, which keeps the file to itself
    dropped = []
    journal = Journal(url, 100, dropped=dropped.append)
    for _ in range(250):
        journal.put(row())
    assert sum(dropped) == 150
    holder.execute("COMMIT")
    holder.close()
    journal.close(within=30)
    assert len(rows(url, tables.predictions)) == 100


def sqlite(url, statement):
    """The first value of what `statement` gives, on a connection of its own."""
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        return (connection.execute(statement).fetchone() or [None])[0]


def filled(url, share):
    """Whether a file bounded to 400,000 bytes has grown to this share of them, but for the pages one row may need."""
    bound = int(400_000 * share) // 4096
    return bound - 4 <= sqlite(url, "PRAGMA page_count") <= bound


def fill(url, max_bytes):
    """Fills a bounded journal with labelled predictions, of which none makes room. Returns how many it holds."""
    database, count = Database(url, max_bytes), 0
    while True:
        prediction = row()
        database.feedback(LabelRow(prediction.id, 3))
        try:
            database.write([prediction])
        except JournalFull:
            break
        count += 1
    database.close()
    return count


@pytest.mark.slow
def test_a_journal_full_of_what_is_labelled_keeps_a_reserve_for_labels_and_recovers(url):
    before, labels = fill(url, 400_000), []
    kept = sqlite(url, "SELECT count(*) FROM feedback")
    journal = Journal(url, 10_000, max_bytes=400_000)
    for _ in range(3000):
        journal.put(row())
    until(lambda: journal.full)
    assert filled(url, 1 - RESERVE)
    written = sqlite(url, "SELECT count(*) FROM predictions")
    assert written == before > 0

    def label_until_full():
        for _ in range(400_000 // 73):  # a label's own bytes, so more than there can be room for
            asyncio.run(journal.feedback(LabelRow(ID, 3)))
            labels.append(ID)

    with pytest.raises(JournalFull, match="full"):
        label_until_full()
    assert filled(url, 1)
    assert sqlite(url, "SELECT count(*) FROM feedback") - kept == len(labels) > 0
    assert sqlite(url, "SELECT count(*) FROM predictions") == written
    until(lambda: sqlite(url, "DELETE FROM predictions") or journal.depth == 0)
    until(lambda: not journal.full)
    asyncio.run(journal.feedback(LabelRow(ID, 3)))
    journal.close(within=30)


def test_a_full_journal_does_not_hold_up_the_end(url):
    fill(url, 200_000)
    dropped = []
    journal = Journal(url, 10_000, max_bytes=200_000, dropped=dropped.append)
    for _ in range(2000):
        journal.put(row())
    until(lambda: journal.full)
    left = journal.depth
    journal.close(within=3600)  # a writer that tried until then would be killed by the test's own limit
    assert sum(dropped) == left > 0


def test_a_service_whose_journal_is_full_says_so_and_answers_on(serve, url, tmp_path):
    held = fill(url, 200_000)
    service = serve(journal=url, journal_max_bytes=200_000, journal_queue=500)
    assert "journal" not in service.http.get("/readyz").text
    batch = {"images": [base64.b64encode(picture).decode() for picture in PICTURES] * 20}

    def is_full():
        assert service.http.post("/predict/batch", json=batch).status_code == 200
        return service.metric("neocog_journal_full") and service.metric("neocog_journal_dropped_total")

    until(is_full)
    said = service.http.get("/readyz")
    assert said.status_code == 200
    assert said.text.splitlines()[1] == "journal: full; predictions are answered and not kept"
    for _ in range(200_000 // 73):  # a label's own bytes, so more than there can be room for
        answer = service.http.post("/feedback", json={"prediction_id": ID, "label": 3})
        if answer.status_code != 201:
            break
    assert (answer.status_code, answer.json()["reason"], answer.headers["retry-after"]) == (503, "journal-full", "60")
    assert service.http.post("/predict", content=PICTURES[0]).status_code == 200
    assert len([line for line in service.log if "the journal is full" in line]) == 1
    written, removed = (service.metric(f"neocog_journal_{what}_total") for what in ("written", "removed"))
    assert service.stop() == 0
    assert (tmp_path / "journal.db").stat().st_size <= 200_000
    assert len(rows(url, tables.predictions)) == held + written - removed > 0


def test_a_database_that_never_comes_back_is_counted_at_the_end():
    dropped = []
    journal = Journal("postgresql://neocog@127.0.0.1:1/none", 100, dropped=dropped.append)
    for _ in range(30):
        journal.put(row())
    journal.close(within=0.5)  # returns, though there is nobody to write to
    assert sum(dropped) == 30


def test_while_postgresql_is_away_predictions_go_on_and_none_is_lost(serve, postgres, database):
    service = serve(journal=database, journal_queue=400)
    sent, feedback, over = [], [], threading.Event()

    def load():
        with httpx2.Client(base_url=service.address, timeout=120) as client:
            for turn in itertools.count():
                answer = client.post("/predict", content=PICTURES[turn % 10])
                sent.append(answer)
                if turn % 20 == 0:
                    identity = answer.json()["prediction_id"]
                    feedback.append(client.post("/feedback", json={"prediction_id": identity, "label": 1}))
                if over.is_set():
                    break

    clients = [threading.Thread(target=load, daemon=True) for _ in range(3)]
    for client in clients:
        client.start()
    until(lambda: service.metric("neocog_journal_written_total") > 0)
    postgres.stop()
    try:
        until(lambda: service.metric("neocog_journal_dropped_total") > 50)
        until(lambda: service.metric("neocog_journal_queue_depth") == 400)
        until(lambda: any(response.status_code == 503 for response in feedback))
    finally:
        postgres.start()
    until(lambda: service.metric("neocog_journal_queue_depth") == 0)
    over.set()
    for client in clients:
        client.join()
    until(lambda: any("written again" in line for line in service.log))
    answered = len(sent)
    assert [response.status_code for response in sent] == [200] * answered
    dropped = service.metric("neocog_journal_dropped_total")
    assert service.stop() == 0
    assert len(rows(database, tables.predictions)) == answered - dropped
    assert {response.status_code for response in feedback} <= {201, 503}
    refused = next(response for response in feedback if response.status_code == 503)
    assert (refused.json()["reason"], refused.headers["retry-after"]) == ("journal-unavailable", "5")
    kept = {row.prediction_id for row in rows(database, tables.feedback)}
    assert kept >= {response.json()["prediction_id"] for response in feedback if response.status_code == 201}


def test_feedback_that_was_accepted_survives_kill_9(serve, url):
    service = serve(journal=url, workers=2)
    accepted, over = [], threading.Event()

    def load():
        while not over.is_set():
            try:
                with httpx2.Client(base_url=service.address, timeout=120) as client:
                    while not over.is_set():
                        answer = client.post("/predict", content=PICTURES[1])
                        said = {"prediction_id": answer.json()["prediction_id"], "label": 2}
                        if client.post("/feedback", json=said).status_code == 201:
                            accepted.append(said["prediction_id"])
            except httpx2.HTTPError:
                time.sleep(0.05)  # the worker that had this connection was killed

    clients = [threading.Thread(target=load, daemon=True) for _ in range(4)]
    for client in clients:
        client.start()
    for _ in range(3):
        before = len(accepted)
        until(lambda before=before: len(accepted) > before + 30)
        os.kill(service.workers()[0], signal.SIGKILL)
    before = len(accepted)
    until(lambda: len(accepted) > before + 30)
    over.set()
    for client in clients:
        client.join()
    assert service.stop() == 0
    kept = {row.prediction_id for row in rows(url, tables.feedback)}
    assert kept >= set(accepted)
    assert len(accepted) > 100


def label(service):
    """What a label is answered, over a connection of its own."""
    said = {"prediction_id": new_id(), "label": 1}
    return said["prediction_id"], httpx2.post(f"{service.address}/feedback", json=said, timeout=120)


def accepted(service):
    """A label that is accepted, as soon as one is."""
    kept = []
    until(lambda: kept.append(label(service)) or kept[-1][1].status_code == 201)
    return kept[-1][0]


def test_while_postgresql_is_silent_labels_are_refused_and_nothing_is_lost(serve, postgres, database):
    service = serve(journal=database)
    labels = [accepted(service)]
    until(lambda: service.http.post("/predict", content=PICTURES[0]) and service.metric("neocog_journal_written_total"))
    with postgres.silent():
        with ThreadPoolExecutor(80) as clients:
            answers = [answer for _, answer in clients.map(label, [service] * 80)]
        assert {(answer.status_code, answer.json()["reason"]) for answer in answers} == {(503, "journal-unavailable")}
        assert {answer.headers["retry-after"] for answer in answers} == {"5"}
        for turn in range(30):
            assert service.http.post("/predict", content=PICTURES[turn % 10]).status_code == 200
    labels.append(accepted(service))
    until(lambda: service.metric("neocog_journal_queue_depth") == 0)
    written = service.metric("neocog_journal_written_total")
    assert service.stop() == 0
    assert len(rows(database, tables.predictions)) == written >= 31
    assert {row.prediction_id for row in rows(database, tables.feedback)} >= set(labels)


def test_while_the_database_is_known_to_be_silent_one_label_waits_and_the_others_do_not(postgres, database):
    journal = Journal(database, 100)

    async def labels(count):
        return await asyncio.gather(*(journal.feedback(LabelRow(ID, 1)) for _ in range(count)), return_exceptions=True)

    assert asyncio.run(labels(1)) == [None]
    with postgres.silent():
        (first,) = asyncio.run(labels(1))
        one, *others = asyncio.run(labels(5))
        assert isinstance(first, JournalSilent)
        assert str(first) == "the database did not answer in time"
        assert str(one) == "connection timeout expired"  # it tried
        assert [str(error) for error in others] == ["the database does not answer"] * 4
    assert asyncio.run(labels(1)) == [None]
    assert asyncio.run(labels(5)) == [None] * 5
    journal.close(within=30)


def test_a_silent_database_does_not_keep_the_service(serve, postgres, database):
    service = serve(journal=database, grace_seconds=12)
    accepted(service)
    with postgres.silent(), ThreadPoolExecutor(10) as clients:
        asked = [clients.submit(label, service) for _ in range(10)]
        until(lambda: service.metric("neocog_in_flight") == 10)
        for turn in range(30):
            service.http.post("/predict", content=PICTURES[turn % 10])
        assert service.stop() == 0
        for answer in asked:
            answer.exception()  # the connection may have been closed
    assert any("predictions are lost" in line for line in service.log)


def delete(*suffixes):
    def attack(path):
        for suffix in suffixes:
            path.with_name(path.name + suffix).unlink()

    return attack


def replace_by_an_old_copy(path):
    with contextlib.closing(sqlite3.connect(path)) as old, contextlib.closing(sqlite3.connect(f"{path}.old")) as copy:
        old.backup(copy)
    Path(f"{path}.old").replace(path)


def swap_the_link(path):
    target = path.with_name("elsewhere.db")
    target.touch()
    path.unlink()
    path.symlink_to(target)


ATTACKS = {
    "deleted": delete(""),
    "deleted with all its files": delete("", "-wal", "-shm"),
    "its log deleted": delete("-wal"),
    "its index deleted": delete("-shm"),
    "its log and its index deleted": delete("-wal", "-shm"),
    "renamed": lambda path: path.rename(path.with_name("moved")),
    "replaced": replace_by_an_old_copy,
    "replaced by a link": swap_the_link,
}


def keeps(journal, label):
    """Whether a label is acknowledged. On a busy machine a database may not answer in time."""
    try:
        asyncio.run(journal.feedback(label))
    except JournalUnavailable:
        return False
    return True


def keeps_label(journal, identity):
    return keeps(journal, LabelRow(identity, 1))


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_acknowledged_is_in_the_file_that_has_the_path(tmp_path, url, attack):
    written = []
    journal = Journal(url, 100, written=written.append)
    first, second = new_id(), new_id()
    journal.put(row(tag="first"))
    until(lambda: sum(written) == 1)
    asyncio.run(journal.feedback(LabelRow(first, 1)))
    ATTACKS[attack](tmp_path / "journal.db")
    until(lambda: keeps_label(journal, second))
    journal.put(row(tag="second"))
    until(lambda: sum(written) == 2)
    labels = {found.prediction_id for found in rows(url, tables.feedback)}
    tags = {found.tag for found in rows(url, tables.predictions)}
    assert second in labels
    assert "second" in tags
    if ("its" in attack and "all its" not in attack) or attack == "replaced":  # what was in it is in it still
        assert first in labels
        assert "first" in tags
    journal.close(within=30)
    assert second in {found.prediction_id for found in rows(url, tables.feedback)}


def test_a_file_that_is_replaced_during_a_commit_gets_it_too(tmp_path, url):
    database = Database(url)
    database.feedback(LabelRow("a" * 32, 1))
    moves = iter([True, True])

    def move(_):
        if next(moves, False):
            (tmp_path / "journal.db").rename(tmp_path / "moved")

    event.listen(database._engine, "commit", move)
    database.feedback(LabelRow("b" * 32, 1))
    assert {found.prediction_id for found in rows(url, tables.feedback)} == {"b" * 32}
    moves = itertools.repeat(True)
    with pytest.raises(JournalUnavailable, match="replaced again and again"):
        database.feedback(LabelRow("c" * 32, 1))
    database.close()


def test_without_its_folder_labels_are_refused_until_it_is_back(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    url = f"sqlite:///{folder}/journal.db"
    journal = Journal(url, 100)
    until(lambda: keeps_label(journal, "a" * 32))
    shutil.rmtree(folder)
    assert not keeps_label(journal, "b" * 32)
    assert not keeps_label(journal, "b" * 32)
    folder.mkdir()
    until(lambda: keeps_label(journal, "c" * 32))
    assert [found.prediction_id for found in rows(url, tables.feedback)] == ["c" * 32]
    journal.close(within=30)


def test_a_journal_that_was_emptied_is_migrated_again(either):
    journal = Journal(either, 100)
    until(lambda: keeps_label(journal, "a" * 32))
    made = engine(either)
    with made.begin() as connection:
        for table in (*tables.metadata.tables, "alembic_version"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    made.dispose()
    until(lambda: keeps_label(journal, "b" * 32))
    assert [found.prediction_id for found in rows(either, tables.feedback)] == ["b" * 32]
    journal.close(within=30)


CAPACITY = 10_000


def fill_queue():
    """The queue of a journal that cannot be written, full of the largest rows: of many labels, with a long tag."""
    journal = Journal("postgresql://neocog@127.0.0.1:1/none", CAPACITY)
    for turn in range(2 * CAPACITY):
        tag = f"{turn}".rjust(TAG, "\U0001f600")
        journal.put(row(tag=tag, probabilities=bytes(4 * 10_000), image=bytes(bytearray(784))))
    assert 0 < journal.depth < CAPACITY
    return journal


def test_a_queue_of_the_largest_rows_is_bounded_in_bytes():
    assert grown(fill_queue) < 1.2 * CAPACITY * ROW_BYTES + 60_000_000  # SQLAlchemy and psycopg, imported meanwhile


def test_a_queue_of_digits_holds_as_many_rows_as_is_said():
    journal = Journal("postgresql://neocog@127.0.0.1:1/none", 100)
    for _ in range(150):
        journal.put(row(tag="\U0001f600" * TAG))
    assert journal.depth == 100
    journal.close(within=0)
