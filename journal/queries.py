"""What stages ask the journal."""

from collections.abc import Iterator
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

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
