"""What stages ask the journal."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from journal.rows import LabelRow
from journal.tables import feedback, predictions, unpack
from model.canonical import Pixels


class Labelled(NamedTuple):
    """A prediction that a person labelled."""

    prediction_id: str
    time: float  # of the prediction: seconds since 1970, UTC
    model_version: str
    digit: int  # what the model answered, as the place among its bundle's labels
    label: int  # what the person said last
    pixels: Pixels  # 28 x 28 uint8, what the model saw


def labelled(connection: Connection, *, since: float = 0.0) -> Iterator[Labelled]:
    """The labelled predictions made at `since` or later, the oldest first, each with its newest label."""
    newest = (
        sa.select(feedback.c.prediction_id, feedback.c.label)
        .add_columns(
            sa.func.row_number()
            .over(partition_by=feedback.c.prediction_id, order_by=(feedback.c.time.desc(), feedback.c.id.desc()))
            .label("age")
        )
        .subquery()
    )
    query = (
        sa.select(predictions, newest.c.label)
        .join(newest, newest.c.prediction_id == predictions.c.id)
        .where(newest.c.age == 1, predictions.c.time >= since)
        .order_by(predictions.c.time, predictions.c.id)
    )
    for row in connection.execution_options(yield_per=1000).execute(query):
        yield Labelled(row.id, row.time, row.model_version, row.digit, row.label, unpack(row.image))


class SentLabel(NamedTuple):
    """A label as a person sent it, and the prediction that it is about."""

    id: str
    time: float  # of the label: seconds since 1970, UTC
    label: LabelRow
    model_version: str
    predicted: int  # a place, as the label
    confidence: float
    probabilities: bytes  # float32, little endian, one for each label
    caller: str | None  # who sent the picture
    pixels: Pixels  # 28 x 28 uint8, what the model saw


def sent_labels(connection: Connection, *, after: str) -> Iterator[SentLabel]:
    """The labels whose id is greater than `after`, in the order of their ids. Those of no prediction are left out."""
    query = (
        sa.select(
            feedback,
            *(predictions.c[name] for name in ("model_version", "digit", "confidence", "probabilities", "caller")),
            predictions.c.image,
        )
        .join(predictions, predictions.c.id == feedback.c.prediction_id)
        .where(feedback.c.id > after)
        .order_by(feedback.c.id)
    )
    for row in connection.execution_options(yield_per=1000).execute(query):
        yield SentLabel(row.id, row.time, _label(row), row.model_version, row.digit, row.confidence,
                        row.probabilities, row.caller, unpack(row.image))  # fmt: skip


def golden_labels(connection: Connection, *, after: str) -> Iterator[tuple[str, LabelRow]]:
    """(id, label) of the labels of golden pictures whose id is greater than `after`, in the order of their ids.

    `journal.ids.golden_id` makes their prediction ids.
    """
    query = sa.select(feedback).where(feedback.c.id > after, feedback.c.asked == "golden").order_by(feedback.c.id)
    for row in connection.execution_options(yield_per=1000).execute(query):
        yield row.id, _label(row)


def _label(row: Any) -> LabelRow:
    return LabelRow(**{name: getattr(row, name) for name in LabelRow._fields})
