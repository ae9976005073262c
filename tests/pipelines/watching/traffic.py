"""A bundle with a reference of noisy digits, and a journal of predictions and labels with chosen times."""

import numpy as np
import onnxruntime as ort
import sqlalchemy as sa

from journal.database import engine
from journal.migrations import upgrade
from journal.rows import PredictionRow
from journal.tables import feedback, pack, predictions
from model.drift import Reference
from model.predictor import Predictor
from model.statistics import measure
from pipelines.watching.params import WatchParams
from tests.bundles import DIGITS, linear_model, make_bundle

START = 1_700_000_000.0  # seconds since 1970
PARAMS = {
    "alpha": 0.01, "epsilon": 0.02, "baseline": 0, "per_session": 1, "epoch": 50, "label_epoch": 10, "labels": "audit",
    "settle": 0, "late": 0, "chunk": 2000, "queue_days": 7, "recent": 200,
}  # fmt: skip


def params(**changes):
    return WatchParams.model_validate(PARAMS | changes)


def noisy(count, rng, noise=40):
    """Digits with noise, and which ones they are."""
    digits = rng.integers(10, size=count)
    return np.clip(DIGITS[digits] + rng.normal(0, noise, (count, 28, 28)), 0, 255).astype(np.uint8), digits


def watched_bundle(folder, **changes):
    """A bundle whose reference is 600 noisy digits, of which the model reads some wrongly."""
    pixels, digits = noisy(600, np.random.default_rng(0))
    session = ort.InferenceSession(linear_model())
    prob, features = session.run(["prob", "features"], {"image": pixels[:, None].astype(np.float32) / np.float32(255)})
    right = prob.argmax(axis=1) == digits
    make_bundle(folder, reference=Reference.of(measure(prob, pixels, features), right).dumps(), **changes)
    return Predictor.load(folder)


def name(time, rng):
    """An id that was made at `time`."""
    return f"{int(time * 1000):012x}7{rng.integers(16**9):09x}{rng.integers(16**10):010x}"


def predicted(predictor, pixels, rng, *, start=START, every=1.0, caller=lambda row: f"{row:016x}", tag=None):
    """Rows of the journal for n images, one every `every` seconds."""
    times = start + every * np.arange(len(pixels))
    return [
        PredictionRow(
            name(time, rng), float(time), predictor.manifest.version, one.digit, float(one.confidence),
            one.probabilities.tobytes(), one.abstained, image.tobytes(), tag, caller(row),
        )
        for row, (time, image, one) in enumerate(zip(times, pixels, predictor.predict(pixels), strict=True))
    ]  # fmt: skip


def said(row, label, rng, *, after=0.5, asked="audit", role="labeller"):
    """A label for a prediction, `after` so many seconds."""
    time = row.time + after
    return {
        "id": name(time, rng), "prediction_id": row.id, "time": time, "label": int(label), "by": "b" * 16,
        "role": role, "asked": asked, "seconds": 1.0, "blind": False,
    }  # fmt: skip


def put(url, rows=(), labels=()):
    """Writes rows of predictions and labels into the journal."""
    made = engine(url)
    if not sa.inspect(made).has_table("watch"):
        upgrade(made)
    with made.begin() as connection:
        if rows:
            images = pack([row.image for row in rows])
            found = [row._asdict() | {"image": image} for row, image in zip(rows, images, strict=True)]
            connection.execute(sa.insert(predictions), found)
        if labels:
            connection.execute(sa.insert(feedback), list(labels))
    made.dispose()
