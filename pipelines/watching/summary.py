"""What the watch says: the JSON that the service shows, that Prometheus' metrics are made of, and that scripts read."""

from dataclasses import asdict
from math import log
from typing import Any

from model.risk import Interval
from pipelines.watching.state import State


def summary(state: State, version: str, updated: float) -> dict[str, Any]:
    """The summary of a model, as docs/watch.md describes it."""
    counts = state.counts
    volunteered = counts.volunteered if state.params.labels == "all" else 0
    return {
        "model_version": version,
        "status": status(state),
        "predictions": counts.predictions,
        "labels": counts.labels + volunteered,
        "reference_error": state.reference.error,
        "tolerated_error": state.tolerated,
        "error": _interval(state.error()),
        "estimated_accuracy": _interval(state.estimated()),
        "volunteered": _interval(state.others.interval(state.params.alpha)),
        "evidence": {name: value / log(10) for name, value in state.logs().items()},
        "alarms": [
            {"kind": alarm.kind, "statistic": alarm.statistic, "since": alarm.since, "time": alarm.time}
            for alarm in state.alarms
        ],
        "counts": asdict(counts),
        "updated": updated,
    }


def status(state: State) -> str:
    """The worst that is known."""
    if state.has("harm"):
        return "harm"
    if state.has("risk"):
        return "risk"
    if state.has("change"):
        return "changed"
    return "learning" if state.evidence is None else "steady"


def _interval(of: Interval) -> dict[str, float] | None:
    return asdict(of) if of.count else None
