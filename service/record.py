"""Hands predictions to the journal."""

import time

from journal.rows import PredictionRow
from service.reader import Reading
from service.state import State


def record(serving: State, reading: Reading, prediction_id: str, tag: str | None) -> None:
    """Queues a prediction for the journal, where the service keeps one."""
    (digit, confidence, probabilities, abstained), pixels, version = reading
    if serving.journal is not None:
        row = PredictionRow(
            prediction_id, time.time(), version, digit, float(confidence), probabilities.tobytes(), abstained,
            pixels.tobytes(), tag,
        )  # fmt: skip
        serving.journal.put(row)
