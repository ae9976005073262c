"""Hands predictions and labels to the journal, and asks it."""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from journal.errors import JournalFull, JournalUnavailable
from journal.rows import LabelRow, PredictionRow
from journal.writer import Journal
from service.edge.problems import Problem
from service.reader import Reading
from service.state import State

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")


def record(serving: State, reading: Reading, prediction_id: str, tag: str | None, caller: str) -> None:
    """Queues a prediction for the journal, where the service keeps one. The journal gets a hash of `caller`."""
    (digit, confidence, probabilities, abstained), pixels, version = reading
    if serving.journal is not None:
        row = PredictionRow(
            prediction_id, time.time(), version, digit, float(confidence), probabilities.tobytes(), abstained,
            pixels.tobytes(), tag, serving.callers.hashed(caller),
        )  # fmt: skip
        serving.journal.put(row)


def kept_journal(serving: State) -> Journal:
    """The journal. Raises `Problem` where the service keeps none."""
    if serving.journal is None:
        raise Problem("no-journal", "this service keeps no journal: NEOCOG_JOURNAL is off")
    return serving.journal


async def keep_label(serving: State, label: LabelRow) -> None:
    """Returns once the label is committed. Raises `Problem`."""
    await _answered(kept_journal(serving).feedback(label), "the label was not kept")


async def asked_of_journal(serving: State, question: "Callable[[Connection], T]") -> T:
    """What `question` reads, in one of the journal's threads. Raises `Problem`."""
    return await _answered(kept_journal(serving).ask(question), "the journal was not read")


async def _answered(answer: Awaitable[T], failed: str) -> T:
    try:
        return await answer
    except JournalFull as error:
        raise Problem("journal-full", f"{failed}: {error}", retry_after=60) from None
    except JournalUnavailable as error:
        raise Problem("journal-unavailable", f"{failed}: {error}", retry_after=5) from None
