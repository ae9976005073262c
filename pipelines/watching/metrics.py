"""The summary as Prometheus' metrics."""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

KINDS = ("harm", "risk", "change")


class Metrics(Collector):
    """The newest summary; nothing before the first one."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.summary: Mapping[str, Any] | None = None
        self.queue = 0  # predictions that wait for a person
        self.succeeded = 0.0  # when the journal was read last, seconds since 1970
        self.registry.register(self)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        last = "When the watch last read the journal to its end; 0 if never."
        yield GaugeMetricFamily("neocog_watch_last_success_timestamp_seconds", last, self.succeeded)
        yield GaugeMetricFamily("neocog_label_queue", "Unanswered predictions that wait for a person.", self.queue)
        if self.summary is not None:
            yield from _of(self.summary)


def _of(summary: Mapping[str, Any]) -> Iterator[Metric]:
    version = summary["model_version"]
    evidence = GaugeMetricFamily(
        "neocog_drift_evidence_log10", "Evidence that a statistic has changed.", labels=["statistic", "model_version"]
    )
    for name, value in summary["evidence"].items():
        evidence.add_metric([name, version], value)
    yield evidence
    rung = {alarm["kind"] for alarm in summary["alarms"]}
    alarm = GaugeMetricFamily("neocog_drift_alarm", "1 once the alarm has rung.", labels=["kind", "model_version"])
    for kind in KINDS:
        alarm.add_metric([kind, version], kind in rung)
    yield alarm
    for name, key, text in (
        ("neocog_error_rate", "error", "Error rate from labels, and its interval."),
        ("neocog_estimated_accuracy", "estimated_accuracy", "Accuracy estimated without labels, and its interval."),
    ):
        bounds = GaugeMetricFamily(name, text, labels=["bound", "model_version"])
        for bound in ("mean", "low", "high") if summary[key] else ():
            bounds.add_metric([bound, version], summary[key][bound])
        yield bounds
    error = "Error rate on the bundle's own labelled data."
    reference = GaugeMetricFamily("neocog_reference_error_rate", error, labels=["model_version"])
    reference.add_metric([version], summary["reference_error"])
    yield reference
    for key in ("predictions", "labels"):
        total = CounterMetricFamily(f"neocog_watched_{key}", f"The {key} that were read.", labels=["model_version"])
        total.add_metric([version], summary[key])
        yield total
