"""What Prometheus scrapes. The values of every label are few and known; nothing that a client sends becomes one.

With several workers, `PROMETHEUS_MULTIPROC_DIR` names a folder through which they add up (see `service.edge.server`).
"""

import asyncio
import collections
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)  # fmt: skip
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import REGISTRY

from journal.rows import ASKED
from model.predictor import Prediction
from service import logs

if TYPE_CHECKING:
    from journal.writer import Journal
    from service.edge.admission import Admission

disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the lines, and nobody reads them

SAMPLED: Final = 0.1  # seconds between two samples of the gauges
_SECONDS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

REQUESTS: Final = Counter("neocog_requests", "requests answered", ["route", "code"])
DURATION: Final = Histogram(
    "neocog_request_duration_seconds", "from the request's headers to its answer", ["route"], buckets=_SECONDS
)
STAGE: Final = Histogram(
    "neocog_stage_duration_seconds", "of decoding, canonical and inference of one batch", ["stage"],
    buckets=(0.00001, 0.000025, 0.00005, *_SECONDS),
)  # fmt: skip
BATCH: Final = Histogram("neocog_batch_size", "images inferred in one call", buckets=(1, 2, 4, 8, 16, 32, 64))
PREDICTIONS: Final = Counter("neocog_predictions", "predictions made", ["label", "model_version"])
ABSTAINED: Final = Counter("neocog_abstained", "predictions below the threshold of confidence", ["model_version"])
CONFIDENCE: Final = Histogram(
    "neocog_confidence",
    "probability of the answer",
    buckets=(0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1),
)
IN_FLIGHT: Final = Gauge("neocog_in_flight", "requests in hand", multiprocess_mode="livesum")
WAITING: Final = Gauge("neocog_waiting", "requests that wait for room", multiprocess_mode="livesum")
CONNECTIONS: Final = Gauge("neocog_connections", "open connections", multiprocess_mode="livesum")
REJECTED: Final = Counter("neocog_rejected", "requests refused", ["reason"])
JOURNAL_QUEUE: Final = Gauge(
    "neocog_journal_queue_depth", "predictions that wait for the journal", multiprocess_mode="livesum"
)
JOURNAL_FULL: Final = Gauge(
    "neocog_journal_full", "1 while the journal has no room for predictions", multiprocess_mode="livemax"
)
JOURNAL_WRITTEN: Final = Counter("neocog_journal_written", "predictions written to the journal")
JOURNAL_DROPPED: Final = Counter("neocog_journal_dropped", "predictions that were not kept")
JOURNAL_REMOVED: Final = Counter("neocog_journal_removed", "old predictions that made room, or had their time")
FEEDBACK: Final = Counter("neocog_feedback", "labels that people sent", ["label"])
LABELS: Final = Counter("neocog_labels", "labels of people with the role, by why they were asked for", ["asked"])
LOG_DROPPED: Final = Counter("neocog_log_dropped", "lines of the log that were not written")
RELOADS: Final = Counter("neocog_reloads", "new bundles, by what became of them", ["result"])
DECODERS_REPLACED: Final = Counter("neocog_decoders_replaced", "processes that decode, by why they ended", ["reason"])
SHADOW: Final = Counter("neocog_shadow", "pictures that the challenger saw, too", ["result"])
MODEL_INFO: Final = Gauge(
    "neocog_model_info", "1 for the model that is served", ["version", "run", "data"], multiprocess_mode="livemax"
)
MODEL_CREATED: Final = Gauge(
    "neocog_model_created_timestamp_seconds",
    "when the model that is served was made; 0 for one that is served no more",
    ["version"],
    multiprocess_mode="livemax",
)


# A series exists before what it counts happens, so that an alert on its increase sees the first time.
for _result in ("served", "refused"):
    RELOADS.labels(_result)
for _result in ("agrees", "disagrees", "passed over"):
    SHADOW.labels(_result)
for _asked in ASKED[1:]:  # all but `volunteered`
    LABELS.labels(_asked)
for _reason in ("busy", "too-slow"):
    REJECTED.labels(_reason)
for _reason in ("too-slow", "died", "stuck", "not-started"):
    DECODERS_REPLACED.labels(_reason)


@lru_cache(maxsize=1024)  # routes and codes are few
def answered(route: str, code: int) -> tuple[Counter, Histogram]:
    """The counter and the histogram of an answer. Looking them up takes longer than adding to them."""
    return REQUESTS.labels(route, str(code)), DURATION.labels(route)


def predictions(version: str, labels: tuple[str, ...], made: Sequence[Prediction]) -> None:
    """Counts a batch."""
    counters = predicted(version, labels)
    for digit, count in collections.Counter(prediction.digit for prediction in made).items():
        counters[digit].inc(count)
    for prediction in made:
        CONFIDENCE.observe(float(prediction.confidence))
    if abstained := sum(prediction.abstained for prediction in made):
        ABSTAINED.labels(version).inc(abstained)


@lru_cache(maxsize=64)
def predicted(version: str, labels: tuple[str, ...]) -> list[Counter]:
    """The counters of a model's labels, in their order. They exist from now on, at 0."""
    ABSTAINED.labels(version)
    for label in labels:
        FEEDBACK.labels(label)
    return [PREDICTIONS.labels(label, version) for label in labels]


async def sample(admission: "Admission", journal: "Journal | None") -> None:
    """Keeps the gauges up to date; setting them for each request would cost more. Never returns."""
    counted = 0
    while True:
        IN_FLIGHT.set(admission.in_flight)
        WAITING.set(admission.waiting)
        CONNECTIONS.set(admission.connections)
        JOURNAL_QUEUE.set(journal.depth if journal else 0)
        JOURNAL_FULL.set(journal is not None and journal.full)
        dropped = logs.dropped()
        LOG_DROPPED.inc(dropped - counted)
        counted = dropped
        await asyncio.sleep(SAMPLED)


@lru_cache(maxsize=8)
def stage(name: str) -> Histogram:
    return STAGE.labels(name)


def exposition() -> bytes:
    """The metrics of all workers together, in Prometheus's text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
