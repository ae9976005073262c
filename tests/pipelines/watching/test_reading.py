"""The journal is read once, whatever is killed, and however many read it: in SQLite and in PostgreSQL."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sqlalchemy as sa

from journal.database import engine
from journal.tables import alarms, watch
from model.drift import Reference
from pipelines.watching.reading import Model, Reader
from tests.conftest import REPOSITORY
from tests.pipelines.watching.traffic import noisy, params, predicted, put, said, watched_bundle

pytestmark = pytest.mark.slow


def model(predictor):
    return Model(
        predictor.manifest.version, predictor.manifest.labels, Reference.parse(predictor.reference), predictor.features
    )


def read(url, predictor, **changes):
    """Reads to the end, with a reader of its own."""
    reader, made = Reader(model(predictor), params(**changes)), engine(url)
    while reader.step(made, reader.horizon()) is not None:
        pass
    state = reader.state(made)
    made.dispose()
    return state


def stored(url, table=watch):
    made = engine(url)
    with made.connect() as connection:
        rows = connection.execute(sa.select(table)).all()
    made.dispose()
    return rows


def traffic(predictor, count=600, noise=40, seed=1):
    rng = np.random.default_rng(seed)
    pixels, digits = noisy(count, rng, noise)
    rows = predicted(predictor, pixels, rng, caller=lambda row: f"{row % 400:016x}" if row % 3 else None)
    return rows, [said(row, digit, rng) for row, digit in list(zip(rows, digits, strict=True))[::7]]


def test_chunks_of_any_size_give_the_same_state(either, predictor, tmp_path):
    rows, labels = traffic(predictor)
    put(either, rows, labels)
    whole = read(either, predictor)
    other = f"sqlite:///{tmp_path}/other.db"
    for part in range(0, 600, 150):  # the journal grows meanwhile
        till = rows[part + 149].id
        seen = {label["id"] for label in labels if rows[part].id <= label["prediction_id"] <= till}
        put(other, rows[part : part + 150], [label for label in labels if label["id"] in seen])
        parted = read(other, predictor, chunk=37)
    assert parted.dumps() == whole.dumps()
    assert (whole.counts.predictions, whole.counts.labels) == (600, 86)
    assert 0 < whole.counts.counted < 600


def test_a_second_reading_counts_nothing_again(either, predictor):
    put(either, *traffic(predictor))
    first = read(either, predictor).dumps()
    [row] = stored(either)
    assert read(either, predictor).dumps() == first
    assert stored(either) == [row]


def test_two_watches_at_once_count_everything_once(either, predictor):
    put(either, *traffic(predictor))
    begin = threading.Barrier(4)

    def one(_):
        begin.wait()
        return read(either, predictor, chunk=20)

    with ThreadPoolExecutor(4) as threads:
        states = [state.dumps() for state in threads.map(one, range(4))]
    assert {states[0]} == set(states)
    [row] = stored(either)
    assert row.state == states[0]
    assert read(either, predictor).counts.predictions == 600


def test_a_watch_that_is_killed_again_and_again_loses_and_doubles_nothing(either, tmp_path):
    predictor = watched_bundle(tmp_path / "bundle")
    rows, labels = traffic(predictor, noise=130)
    put(either, rows[:300])
    command = [sys.executable, "-m", "tests.pipelines.watching.killed", either, str(tmp_path / "bundle"), "10"]
    with subprocess.Popen(command, cwd=REPOSITORY) as process:
        for part in range(300, 600, 30):  # the journal is written meanwhile
            put(either, rows[part : part + 30])
    assert process.returncode == 0
    put(either, [], labels)
    left = read(either, predictor)
    other = f"sqlite:///{tmp_path}/other.db"
    put(other, rows, labels)
    assert left.dumps() == read(other, predictor).dumps()
    rung = [(alarm.kind, alarm.statistic, alarm.since, alarm.time) for alarm in left.alarms]
    assert sorted((row.kind, row.statistic, row.since, row.time) for row in stored(either, alarms)) == sorted(rung)
    assert rung
