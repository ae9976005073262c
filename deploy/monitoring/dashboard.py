"""Writes grafana/dashboard.json: `python -m deploy.monitoring.dashboard`. The panels are the table below."""

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

FILE: Final = Path(__file__).with_name("grafana") / "dashboard.json"
SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
WIDTH: Final = 24  # of Grafana's grid
HEIGHT: Final = 8


class Panel(NamedTuple):
    """`queries` are pairs of an expression and its legend. `limit` is drawn as a red line."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    limit: float | None = None
    note: str = ""


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Objectives": (
        Panel("Requests that failed", (
            ("neocog:requests_failed:ratio_rate5m", "5 minutes"), ("neocog:requests_failed:ratio_rate1h", "1 hour"),
            ("neocog:requests_failed:ratio_rate3d", "3 days"),
        ), "percentunit", 0.001, "5xx among the requests that were not the client's mistake. At most 0.1 % of 30 days'."),
        Panel("Requests to /predict over 0.25 s", (
            ("neocog:requests_slow:ratio_rate5m", "5 minutes"), ("neocog:requests_slow:ratio_rate1h", "1 hour"),
            ("neocog:requests_slow:ratio_rate3d", "3 days"),
        ), "percentunit", 0.01, "At most 1 % of 30 days'."),
        Panel("Alerts", (
            ('count by (alertname, severity) (ALERTS{alertstate="firing"})', "{{alertname}}, {{severity}}"),
        ), note="What fires. docs/runbooks.md says what to do."),
    ),
    "Harm": (
        Panel("Error rate, from labels", (
            ('max by (bound, model_version) (neocog_error_rate)', "{{bound}}, {{model_version}}"),
            ('max by (model_version) (neocog_reference_error_rate)', "at the gate, {{model_version}}"),
        ), "percentunit", note="The interval holds at all times together. Harm: its lower end is above the gate's by more than the margin."),
        Panel("Accuracy, estimated without labels", (
            ('max by (bound, model_version) (neocog_estimated_accuracy)', "{{bound}}, {{model_version}}"),
        ), "percentunit", note="The share of predictions above a threshold of confidence (Garg 2022)."),
        Panel("Evidence of change", (
            ('max by (statistic, model_version) (neocog_drift_evidence_log10)', "{{statistic}}, {{model_version}}"),
        ), limit=2, note="log10 of each e-process: at 2, what is seen is 100 times as likely after a change as without one."),
        Panel("Alarms", (
            ('max by (kind, model_version) (neocog_drift_alarm)', "{{kind}}, {{model_version}}"),
        )),
        Panel("Watched", (
            ("sum by (model_version) (rate(neocog_watched_predictions_total[5m]))", "predictions, {{model_version}}"),
            ("sum by (model_version) (rate(neocog_watched_labels_total[5m]))", "labels, {{model_version}}"),
            ("sum by (label) (rate(neocog_feedback_total[5m]))", "label {{label}}"),
        ), "ops"),
        Panel("Label queue, and the watch's age", (
            ("max(neocog_label_queue)", "pictures that wait"),
            ("time() - max(neocog_watch_last_success_timestamp_seconds)", "seconds since the last success"),
        ), limit=200),
    ),
    "Model": (
        Panel("Predictions", (("sum by (label) (rate(neocog_predictions_total[5m]))", "{{label}}"),), "ops"),
        Panel("Abstentions", (
            ("sum by (model_version) (rate(neocog_abstained_total[1h])) "
             "/ sum by (model_version) (rate(neocog_predictions_total[1h]))", "{{model_version}}"),
        ), "percentunit", 0.05),
        Panel("Confidence", (
            ("histogram_quantile(0.05, sum by (le) (rate(neocog_confidence_bucket[5m])))", "the least sure 5 %"),
            ("histogram_quantile(0.5, sum by (le) (rate(neocog_confidence_bucket[5m])))", "median"),
        ), "percentunit"),
        Panel("Age of the model", (
            ("time() - max(neocog_model_created_timestamp_seconds)", "age"),
        ), "s", 90 * 86400),
        Panel("Replicas by model", (("count by (version) (neocog_model_info == 1)", "{{version}}"),)),
        Panel("Reloads, and the challenger", (
            ("sum by (result) (increase(neocog_reloads_total[1h]))", "bundle {{result}}"),
            ("sum by (result) (rate(neocog_shadow_total[5m]))", "challenger {{result}}, per second"),
        )),
    ),
    "Requests": (
        Panel("Answers", (("sum by (code) (rate(neocog_requests_total[5m]))", "{{code}}"),), "reqps"),
        Panel("Time of /predict", tuple(
            (f'histogram_quantile({q}, sum by (le) (rate(neocog_request_duration_seconds_bucket{{route="/predict"}}[5m])))', f"p{100 * q:g}")
            for q in (0.5, 0.9, 0.99)
        ), "s", 0.25),
        Panel("Time of a batch, by stage", (
            ("sum by (stage) (rate(neocog_stage_duration_seconds_sum[5m])) "
             "/ sum by (stage) (rate(neocog_stage_duration_seconds_count[5m]))", "{{stage}}"),
        ), "s"),
        Panel("Images in a batch", (
            ("sum(rate(neocog_batch_size_sum[5m])) / sum(rate(neocog_batch_size_count[5m]))", "mean"),
        )),
        Panel("In hand", (
            ("sum by (instance) (neocog_in_flight)", "in hand, {{instance}}"), ("sum by (instance) (neocog_waiting)", "waiting, {{instance}}"),
            ("sum by (instance) (neocog_connections)", "connections, {{instance}}"),
        )),
        Panel("Refusals", (
            ("sum by (reason) (rate(neocog_rejected_total[5m]))", "{{reason}}"),
            ("sum by (reason) (rate(neocog_decoders_replaced_total[5m]))", "decoder replaced: {{reason}}"),
            ("sum(rate(neocog_log_dropped_total[5m]))", "lines of the log lost"),
        ), "ops"),
    ),
    "Journal": (
        Panel("Predictions kept and lost", (
            ("sum(rate(neocog_journal_written_total[5m]))", "written"), ("sum(rate(neocog_journal_dropped_total[5m]))", "dropped"),
        ), "ops"),
        Panel("Queue", (("max by (instance) (neocog_journal_queue_depth)", "{{instance}}"),), limit=2000),
        Panel("Full", (("max by (instance) (neocog_journal_full)", "{{instance}}"),)),
    ),
}  # fmt: skip


def drawn(panel: Panel, number: int, x: int, y: int, width: int) -> dict[str, Any]:
    """A panel of type `timeseries`, as Grafana 12 stores it."""
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.note,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": HEIGHT},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for i, (expr, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "custom": {"thresholdsStyle": {"mode": "off" if panel.limit is None else "dashed"}},
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    }


def dashboard() -> dict[str, Any]:
    """What Grafana provisions: a row of panels, three side by side, for each entry of `ROWS`."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": y, "w": WIDTH, "h": 1}
        panels.append(
            {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
        )
        y += 1
        for i, panel in enumerate(row):
            panels.append(drawn(panel, len(panels) + 1, i % 3 * 8, y + i // 3 * HEIGHT, 8))
        y += -(-len(row) // 3) * HEIGHT
    firing = {
        "name": "Alerts", "enable": True, "iconColor": "red", "datasource": SOURCE, "titleFormat": "{{alertname}}",
        "expr": 'ALERTS{alertstate="firing"}', "step": "60s",
    }  # fmt: skip
    return {
        "uid": "neocog",
        "title": "Neocog",
        "tags": ["neocog"],
        "schemaVersion": 41,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "annotations": {"list": [firing]},
        "templating": {"list": []},
        "panels": panels,
    }


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
