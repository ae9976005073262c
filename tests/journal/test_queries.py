"""What stages ask the journal, in SQLite and in PostgreSQL."""

import asyncio

import numpy as np

from journal.database import engine
from journal.queries import labelled
from journal.rows import LabelRow
from journal.writer import Journal
from tests.bundles import DIGITS
from tests.journal.test_writer import row


def test_each_labelled_prediction_comes_once_with_its_newest_label(either):
    journal = Journal(either, 100)
    rows = [row(time=float(i), digit=i, image=DIGITS[i].tobytes()) for i in range(5)]
    for prediction in rows:
        journal.put(prediction)
    for place, label in ((3, 9), (1, 4), (3, 5)):  # the last one counts
        asyncio.run(journal.feedback(LabelRow(rows[place].id, label)))
    asyncio.run(journal.feedback(LabelRow("f" * 32, 1)))  # of a prediction that was never kept
    journal.close(within=60)
    made = engine(either)
    with made.connect() as connection:
        found = list(labelled(connection))
        later = list(labelled(connection, since=2.0))
    made.dispose()
    assert [(f.prediction_id, f.digit, f.label) for f in found] == [(rows[1].id, 1, 4), (rows[3].id, 3, 5)]
    assert np.array_equal(found[0].pixels, DIGITS[1])
    assert [f.prediction_id for f in later] == [rows[3].id]
