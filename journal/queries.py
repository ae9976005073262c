"""What stages ask the journal."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Table

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


class Answered(NamedTuple):
    """A prediction of any model. Only the watched model's have their image and probabilities."""

    id: str
    model_version: str
    abstained: bool
    caller: str | None
    image: bytes | None  # as `tables.pack` packs it
    probabilities: bytes | None


def answered(connection: Connection, version: str, *, after: str, before: str, limit: int) -> list[Answered]:
    """At most `limit` predictions with ids between `after` and `before`, in the order of their ids."""
    mine = predictions.c.model_version == version
    query = (
        sa.select(
            predictions.c.id,
            predictions.c.model_version,
            predictions.c.abstained,
            predictions.c.caller,
            sa.case((mine, predictions.c.image)),
            sa.case((mine, predictions.c.probabilities)),
        )
        .where(predictions.c.id > after, predictions.c.id < before)
        .order_by(predictions.c.id)
        .limit(limit)
    )
    return [Answered(*row) for row in connection.execute(query)]


class Heard(NamedTuple):
    """A label, and what it is about. `model_version` and `digit` are None where the journal lacks the prediction."""

    id: str
    model_version: str | None
    digit: int | None
    label: int
    asked: str
    audit: bool  # drawn at random for a labeller: alone unbiased
    first: bool  # of those for its prediction that have the same `audit`


def heard(connection: Connection, *, after: str, before: str, limit: int) -> list[Heard]:
    """At most `limit` labels with ids between `after` and `before`, in the order of their ids."""
    earlier = feedback.alias()
    repeated = sa.exists().where(
        earlier.c.prediction_id == feedback.c.prediction_id,
        earlier.c.id < feedback.c.id,
        _audit(earlier) == _audit(feedback),
    )
    query = (
        sa.select(
            feedback.c.id,
            predictions.c.model_version,
            predictions.c.digit,
            feedback.c.label,
            feedback.c.asked,
            _audit(feedback),
            ~repeated,
        )
        .outerjoin_from(feedback, predictions, predictions.c.id == feedback.c.prediction_id)
        .where(feedback.c.id > after, feedback.c.id < before)
        .order_by(feedback.c.id)
        .limit(limit)
    )
    return [
        Heard(row_id, version, digit, label, asked, bool(audit), bool(first))
        for row_id, version, digit, label, asked, audit, first in connection.execute(query)
    ]


def _audit(of: Table | Any) -> ColumnElement[int]:
    return sa.case((sa.and_(of.c.asked == "audit", of.c.role == "labeller"), 1), else_=0)


def remaining(connection: Connection, *, after: str, before: str) -> int:
    """How many predictions have ids between `after` and `before`."""
    query = sa.select(sa.func.count()).where(predictions.c.id > after, predictions.c.id < before)
    return connection.execute(query).scalar_one()


def waiting(connection: Connection, *, since: float) -> int:
    """How many predictions made at `since` or later were left to a person, and have no label."""
    labelled_one = sa.exists().where(feedback.c.prediction_id == predictions.c.id)
    query = sa.select(sa.func.count()).where(predictions.c.time >= since, predictions.c.abstained, ~labelled_one)
    return connection.execute(query).scalar_one()


class Recent(NamedTuple):
    """A prediction of the watched model, for a person to look at."""

    id: str
    time: float
    digit: int
    confidence: float
    abstained: bool
    caller: str | None
    tag: str | None
    image: bytes


def recent(connection: Connection, version: str, *, limit: int) -> list[Recent]:
    """The newest `limit` predictions of a model, the oldest of them first."""
    columns = [predictions.c[name] for name in Recent._fields]
    query = sa.select(*columns).where(predictions.c.model_version == version)
    rows = connection.execute(query.order_by(predictions.c.id.desc()).limit(limit)).all()
    return [Recent(*row) for row in reversed(rows)]
