"""Reads the journal from where the watch of a model stopped, and commits what it counted with the new place.

A kill at any moment loses and doubles nothing: counters, alarms and cursors change in one transaction. Two watches of
one model do not count twice: the transaction changes the row only if it is as it was read. Nobody waits for a lock.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from journal.deadlines import within
from journal.ids import first_id, moment, new_id
from journal.queries import Heard, answered, heard, remaining
from journal.tables import alarms, watch
from model.drift import Reference
from pipelines.watching.params import WatchParams
from pipelines.watching.state import Features, State
from pipelines.watching.summary import summary

DEADLINE: Final = 60  # seconds that reading a chunk may take, and that committing it may take
_START: Final = ""  # sorts before every id


class Model(NamedTuple):
    """What the watch needs of a bundle."""

    version: str
    labels: Sequence[str]
    reference: Reference
    features: Features


@dataclass
class _Place:
    """A row of the table `watch`. `updated` is None where there is no row yet."""

    state: State
    predictions: str = _START
    labels: str = _START
    updated: float | None = None


class Reader:
    """Counts a model's predictions and labels."""

    def __init__(self, model: Model, params: WatchParams) -> None:
        self.model, self._params = model, params
        self._place: _Place | None = None  # as it is in the journal; None where that is not known

    def state(self, engine: Engine) -> State:
        """What was counted so far."""
        with within(DEADLINE), engine.connect() as connection:
            return self._found(connection).state

    def horizon(self) -> str:
        """The id up to which the journal is taken to be complete."""
        return first_id(time.time() - self._params.settle)

    def left(self, engine: Engine, before: str) -> int:
        """How many predictions with ids below `before` are not read yet."""
        with within(DEADLINE), engine.connect() as connection:
            return remaining(connection, after=self._found(connection).predictions, before=before)

    def step(self, engine: Engine, before: str) -> int | None:
        """Counts a chunk of what has ids below `before`. Returns how many predictions; None where nothing is left.

        Raises `SQLAlchemyError`, and `model.epochs.StateError` where the stored state cannot be used.
        """
        version, size = self.model.version, self._params.chunk
        with within(DEADLINE), engine.connect() as connection:
            place = self._found(connection)
            rows = answered(connection, version, after=place.predictions, before=before, limit=size)
            said = self._in_time(heard(connection, after=place.labels, before=before, limit=size))
        if not rows and not said and place.updated is not None:
            return None
        self._place = None  # the state is changed from here on: it is the journal's again once it is committed
        place.state.predictions(rows, version, len(self.model.labels), self.model.features)
        place.state.labels(said, version)
        predictions = rows[-1].id if rows else place.predictions
        labels = said[-1].id if said else place.labels
        self._commit(engine, place, _Place(place.state, predictions, labels))
        return len(rows)

    def acknowledge(self, engine: Engine) -> None:
        """Forgets what was counted, the alarms too, and goes on from the same place."""
        with within(DEADLINE), engine.connect() as connection:
            place = self._found(connection)
        self._place = None
        self._commit(
            engine, place, _Place(State.new(self.model.reference, self._params), place.predictions, place.labels)
        )

    def _found(self, connection: Connection) -> _Place:
        if self._place is None:
            row = connection.execute(sa.select(watch).where(watch.c.model_version == self.model.version)).one_or_none()
            if row is None:
                self._place = _Place(State.new(self.model.reference, self._params))
            else:
                state = State.loads(row.state, self.model.reference, self._params)
                self._place = _Place(state, row.prediction_cursor, row.label_cursor, row.updated)
        return self._place

    def _in_time(self, rows: list[Heard]) -> list[Heard]:
        """The labels before the first one that still waits for its prediction."""
        overdue = time.time() - self._params.late
        for at, row in enumerate(rows):
            if row.model_version is None and row.asked != "golden" and moment(row.id) > overdue:
                return rows[:at]
        return rows

    def _commit(self, engine: Engine, old: _Place, new: _Place) -> None:
        """Puts `new` in the place of `old`. Where another watch has done so, that one's row is read the next time."""
        new.updated = time.time() if old.updated is None else max(time.time(), old.updated + 1e-3)
        values = {
            "prediction_cursor": new.predictions,
            "label_cursor": new.labels,
            "state": new.state.dumps(),
            "summary": json.dumps(summary(new.state, self.model.version, new.updated)),
            "updated": new.updated,
        }
        try:
            with within(DEADLINE), engine.begin() as connection:
                if connection.execute(self._change(old, values)).rowcount != 1:
                    return
                self._ring(connection, new.state)
        except IntegrityError:  # another watch of this model began at the same moment
            return
        self._place = new

    def _change(self, old: _Place, values: dict[str, object]) -> sa.Insert | sa.Update:
        if old.updated is None:
            return sa.insert(watch).values(model_version=self.model.version, **values)
        unchanged = (
            watch.c.model_version == self.model.version,
            watch.c.prediction_cursor == old.predictions,
            watch.c.label_cursor == old.labels,
            watch.c.updated == old.updated,
        )
        return sa.update(watch).where(*unchanged).values(values)

    def _ring(self, connection: Connection, state: State) -> None:
        """Adds the alarms that the journal lacks."""
        known = sa.select(alarms.c.kind, alarms.c.time).where(alarms.c.model_version == self.model.version)
        there = {tuple(row) for row in connection.execute(known)}
        for alarm in state.alarms:
            if (alarm.kind, alarm.time) not in there:
                detail = json.dumps(alarm.detail)
                connection.execute(
                    alarms.insert().values(
                        id=new_id(), model_version=self.model.version, time=alarm.time, kind=alarm.kind,
                        statistic=alarm.statistic, since=alarm.since, detail=detail,
                    )
                )  # fmt: skip
