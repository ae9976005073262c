"""What stages ask the journal, in SQLite and in PostgreSQL."""

from functools import partial

import numpy as np

from journal.database import engine
from journal.queries import golden_labels, labelled, sent_labels
from journal.rows import LabelRow
from journal.writer import Journal
from tests.bundles import DIGITS
from tests.journal.test_writer import keeps, row
from tests.waiting import until


def test_each_labelled_prediction_comes_once_with_its_newest_label(either):
    journal = Journal(either, 100)
    rows = [row(time=float(i), digit=i, image=DIGITS[i].tobytes()) for i in range(5)]
    for prediction in rows:
        journal.put(prediction)
    for place, label in ((3, 9), (1, 4), (3, 5)):  # the last one counts
        until(partial(keeps, journal, LabelRow(rows[place].id, label)))
    until(partial(keeps, journal, LabelRow("f" * 32, 1)))  # of a prediction that was never kept
    journal.close(within=60)
    made = engine(either)
    with made.connect() as connection:
        found = list(labelled(connection))
        later = list(labelled(connection, since=2.0))
    made.dispose()
    assert [(f.prediction_id, f.digit, f.label) for f in found] == [(rows[1].id, 1, 4), (rows[3].id, 3, 5)]
    assert np.array_equal(found[0].pixels, DIGITS[1])
    assert [f.prediction_id for f in later] == [rows[3].id]


def test_labels_come_in_the_order_of_their_ids_with_their_predictions(either):
    journal = Journal(either, 100)
    rows = [row(time=float(i), digit=i, image=DIGITS[i].tobytes()) for i in range(3)]
    for prediction in rows:
        journal.put(prediction)
    asked = LabelRow(rows[2].id, 9, "ada", "labeller", "audit", 1.5, True)
    golden = LabelRow("a" * 32, 4, "ada", "labeller", "golden")
    for label in (asked, LabelRow(rows[0].id, 1), golden, LabelRow(rows[2].id, 2)):
        until(partial(keeps, journal, label))
    journal.close(within=60)
    made = engine(either)
    with made.connect() as connection:
        found = list(sent_labels(connection, after=""))
        later = list(sent_labels(connection, after=found[0].id))
        [(_, only)] = golden_labels(connection, after="")
        none = list(golden_labels(connection, after=found[2].id))
    made.dispose()
    assert [(f.label.prediction_id, f.label.label, f.predicted) for f in found] == [
        (rows[2].id, 9, 2), (rows[0].id, 1, 0), (rows[2].id, 2, 2),
    ]  # fmt: skip
    assert found[0].label == asked
    assert np.array_equal(found[1].pixels, DIGITS[0])
    assert (found[0].probabilities, found[0].caller) == (rows[2].probabilities, rows[2].caller)
    assert [f.id for f in later] == [f.id for f in found[1:]]
    assert (only, none) == (golden, [])
