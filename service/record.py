"""Hands predictions to the journal."""

import time

from journal.rows import PredictionRow
from service.reader import Reading
from service.state import State


def record(serving: State, reading: Reading, prediction_id: str, tag: str | None, caller: str) -> None:
    """Queues a prediction for the journal, where the service keeps one. The journal gets a hash of `caller`."""
    (digit, confidence, probabilities, abstained), pixels, version = reading
    if serving.journal is not None:
        row = PredictionRow(
            prediction_id, time.time(), version, digit, float(confidence), probabilities.tobytes(), abstained,
            pixels.tobytes(), tag, serving.callers.hashed(caller),
        )  # fmt: skip
        serving.journal.put(row)
