"""What people with the role are asked to label, and what they said: reads of the journal for the page /label."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import Connection

from journal.rows import ROLES
from journal.tables import feedback, predictions, unpack
from model.canonical import SIDE, Pixels

NEWEST: Final = 5_000  # predictions that are looked at; reading and choosing take some 150 ms
LABELLER: Final = ROLES[1]


class Said(NamedTuple):
    """A label of a person with the role."""

    label: int
    asked: str


class Pool(NamedTuple):
    """The newest predictions of one model, and what people with the role said of them."""

    ids: list[str]  # the newest first
    probabilities: NDArray[np.float32]  # n x classes
    pixels: Pixels  # n x 28 x 28 uint8
    said: dict[str, dict[str, Said]]  # for each prediction with labels, the newest label of each person
    given: int  # labels that the asking person gave in all


class Count(NamedTuple):
    """How often a person gave a label for a reason."""

    by: str
    asked: str
    labels: int


class Stats(NamedTuple):
    """What people with the role have done, and what waits for them."""

    counts: list[Count]
    golden: list[tuple[str, str, int]]  # by, prediction_id, label: of the golden pictures that were named
    waiting: int  # of the newest predictions


def pool(connection: Connection, model_version: str, classes: int, by: str) -> Pool:
    """What the person `by` may be asked about."""
    newest = _newest(model_version)
    rows = connection.execute(sa.select(newest.c.id, newest.c.probabilities, newest.c.image)).all()
    rows = [row for row in rows if len(row.probabilities) == 4 * classes]
    probabilities = np.frombuffer(b"".join(row.probabilities for row in rows), "<f4").reshape(-1, classes)
    pixels = np.stack([unpack(row.image) for row in rows]) if rows else np.empty((0, SIDE, SIDE), np.uint8)
    ids = [row.id for row in rows]
    given = sa.select(sa.func.count()).where(feedback.c.role == LABELLER, feedback.c.by == by)
    return Pool(ids, probabilities, pixels, _said(connection, ids), connection.execute(given).scalar_one())


def stats(connection: Connection, model_version: str, golden: Sequence[str]) -> Stats:
    """`golden` are the ids of the model's golden pictures."""
    mine = feedback.c.role == LABELLER
    counted = sa.select(feedback.c.by, feedback.c.asked, sa.func.count()).where(mine)
    counts = connection.execute(counted.group_by(feedback.c.by, feedback.c.asked)).all()
    known = sa.select(feedback.c.by, feedback.c.prediction_id, feedback.c.label)
    known = known.where(mine, feedback.c.prediction_id.in_(golden))
    newest = _newest(model_version)
    labelled = sa.exists().where(mine, feedback.c.prediction_id == newest.c.id)
    waiting = connection.execute(sa.select(sa.func.count()).select_from(newest).where(~labelled)).scalar_one()
    return Stats(
        [Count(by or "", asked, count) for by, asked, count in counts],
        [(by or "", identity, label) for by, identity, label in connection.execute(known)],
        waiting,
    )


def _newest(model_version: str) -> sa.Subquery:
    """The predictions of the model among the `NEWEST` of all. A model that has just come has few."""
    every = sa.select(predictions).order_by(predictions.c.id.desc()).limit(NEWEST).subquery()
    return sa.select(every).where(every.c.model_version == model_version).subquery()


def _said(connection: Connection, ids: Sequence[str]) -> dict[str, dict[str, Said]]:
    """`ids` are in descending order. A person's newest label of a picture replaces the earlier ones."""
    said: dict[str, dict[str, Said]] = defaultdict(dict)
    if ids:
        query = (
            sa.select(feedback.c.prediction_id, feedback.c.by, feedback.c.label, feedback.c.asked)
            .where(feedback.c.role == LABELLER, feedback.c.prediction_id.between(ids[-1], ids[0]))
            .order_by(feedback.c.time, feedback.c.id)
        )
        for row in connection.execute(query):
            said[row.prediction_id][row.by] = Said(row.label, row.asked)
    return dict(said)
