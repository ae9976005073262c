"""What is asked of Prometheus: by the rules, by the dashboard. And where an alert's link leads."""

import json
import re

import promql_parser
import pytest
import yaml

from deploy.monitoring import dashboard
from service.app import app
from service.metrics import DURATION
from tests.bundles import DIGITS, png
from tests.conftest import REPOSITORY

MONITORING = REPOSITORY / "deploy" / "monitoring"
RULES = [
    rule for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"] for rule in group["rules"]
]  # fmt: skip
ALERTS = [rule for rule in RULES if "alert" in rule]
PANELS = [panel for panel in dashboard.dashboard()["panels"] if panel["type"] != "row"]
ASKED = [rule["expr"] for rule in RULES] + [target["expr"] for panel in PANELS for target in panel["targets"]]
RUNBOOKS = REPOSITORY / "docs" / "runbooks.md"

# What `pipelines.watch` tells, and by which labels.
WATCH = {
    "neocog_drift_evidence_log10": {"statistic", "model_version"},
    "neocog_drift_alarm": {"kind", "model_version"},
    "neocog_error_rate": {"bound", "model_version"},
    "neocog_reference_error_rate": {"model_version"},
    "neocog_estimated_accuracy": {"bound", "model_version"},
    "neocog_watched_predictions_total": {"model_version"},
    "neocog_watched_labels_total": {"model_version"},
    "neocog_watch_last_success_timestamp_seconds": set(),
    "neocog_label_queue": set(),
}
PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate", "severity"}}


def selectors(expr):
    """Every vector selector in an expression: its name, and the labels that it asks for."""
    found = []

    def visit(node):
        if isinstance(node, promql_parser.VectorSelector):
            found.append((node.name, {matcher.name for matcher in node.matchers.matchers}))
        for child in ("expr", "lhs", "rhs", "vector_selector", "param"):
            if isinstance(inner := getattr(node, child, None), promql_parser.Expr):
                visit(inner)
        for inner in getattr(node, "args", ()):
            visit(inner)

    visit(promql_parser.parse(expr))
    return found


@pytest.fixture(scope="module")
def exposed(service):
    """The series of a running service: names, each with its labels."""
    service.http.post("/predict", content=png(DIGITS[0]))
    series = {}
    for line in service.http.get("/metrics").text.splitlines():
        if found := re.match(r"([a-zA-Z_:]\w*)(?:\{(.*)\})? ", line):
            series.setdefault(found[1], set()).update(re.findall(r'(\w+)="', found[2] or ""))
    return series


def test_whatever_is_asked_for_exists(exposed):
    recorded = {rule["record"]: {"model_version"} for rule in RULES if "record" in rule}
    known = exposed | recorded | WATCH | PROMETHEUS
    for expr in ASKED:
        assert selectors(expr), expr
        for name, labels in selectors(expr):
            assert name in known, f"{name} is neither on /metrics nor recorded"
            assert labels <= known[name] | {"job", "instance"}, f"{name} has the labels {sorted(known[name])}"


def test_a_name_that_does_not_exist_would_be_seen():
    assert selectors('sum(rate(a{x="1"}[5m])) / on (y) (b offset 1h) > max_over_time(c[1h:5m]) or absent(d)') == [
        ("a", {"x"}), ("b", set()), ("c", set()), ("d", set()),
    ]  # fmt: skip


# For people who look: that old rows make room is what was asked for, and labels come when people have time.
EXCUSED = {"neocog_journal_removed_total", "neocog_labels_total"}


def test_every_metric_of_ours_is_asked_for(exposed):
    used = {name for expr in ASKED for name, _ in selectors(expr)}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in used}
    ours = {name for name in exposed if name.startswith("neocog_")} | set(WATCH)
    assert {name for name in ours if re.sub(r"_(bucket|count|sum)$", "", name) not in families} == EXCUSED
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    assert recorded <= used


def test_the_objective_of_latency_is_a_bound_of_the_histogram():
    bounds = {f"{bound:g}" for bound in DURATION._kwargs["buckets"]}
    asked = set(re.findall(r'le="([^"]+)"', "".join(rule["expr"] for rule in RULES)))
    assert asked == {"0.25"}
    assert asked <= bounds


def test_probes_are_the_routes_that_count_nowhere():
    """Availability leaves out those that a probe or Prometheus asks, and no other."""
    [pattern] = set(re.findall(r'route!~"([^"]+)"', "".join(rule["expr"] for rule in RULES)))
    left_out = {path for _, path in app.table.paths if re.fullmatch(pattern, path)}
    assert left_out == {
        "/livez", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready", "/v2/models/digits/ready",
    }  # fmt: skip


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule):
    assert set(rule["annotations"]) == {"summary", "runbook_url"}
    assert rule["labels"]["severity"] in ("page", "ticket")
    base, anchor = rule["annotations"]["runbook_url"].split("#")
    assert base == "{{ $externalLabels.runbooks }}"
    assert anchor == rule["alert"].lower()
    [section] = re.findall(rf"^## {rule['alert']}\n\n(.+?)(?=^## |\Z)", RUNBOOKS.read_text(), re.MULTILINE | re.DOTALL)
    assert f"*{rule['labels']['severity']}" in section
    assert re.search(r"^1\. ", section, re.MULTILINE)


def test_the_base_of_the_links_is_the_runbooks_file():
    base = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["global"]["external_labels"]["runbooks"]
    assert base.endswith(f"/{RUNBOOKS.relative_to(REPOSITORY)}")


def test_every_runbook_has_an_alert_and_every_link_in_it_leads_somewhere():
    written = RUNBOOKS.read_text()
    headings = re.findall(r"^## (\w+)$", written, re.MULTILINE)
    assert set(headings) == {rule["alert"] for rule in ALERTS}
    assert set(re.findall(r"\(#(\w+)\)", written)) <= {heading.lower() for heading in headings}


def test_the_dashboard_is_what_its_table_says():
    assert dashboard.FILE.read_text() == dashboard.text(), "python -m deploy.monitoring.dashboard"


def lost(written, read, path=""):
    """Where a value of `written` is missing in `read`, or differs."""
    if isinstance(written, dict):
        missing = [f"{path}.{key}" for key in written if key not in read]
        return missing + [
            each for key in written.keys() & read for each in lost(written[key], read[key], f"{path}.{key}")
        ]
    if isinstance(written, list):
        pairs = zip(written, read, strict=True)
        return [each for i, (one, other) in enumerate(pairs) for each in lost(one, other, f"{path}[{i}]")]
    return [] if written == read else [path]


def test_grafanas_own_schema_knows_every_key_of_the_dashboard():
    """Grafana passes over a key that it doesn't know. Its SDK is read back here: it keeps the keys that it knows."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins
    from grafana_foundation_sdk.models.dashboard import Dashboard

    register_default_plugins()
    written = json.loads(dashboard.text())
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(json.loads(dashboard.text()))))
    # The schema of an annotation leaves to each data source what else it asks.
    assert lost(written, read) == [".annotations.list[0].titleFormat", ".annotations.list[0].step"]


def test_panels_do_not_overlap_and_are_numbered():
    panels = json.loads(dashboard.text())["panels"]
    assert [panel["id"] for panel in panels] == list(range(1, len(panels) + 1))
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < dashboard.WIDTH


def test_the_dashboard_asks_the_data_source_that_is_provisioned():
    [source] = yaml.safe_load((MONITORING / "grafana" / "datasource.yml").read_text())["datasources"]
    assert {"type": source["type"], "uid": source["uid"]} == dashboard.SOURCE
    written = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["global"]
    assert source["jsonData"]["timeInterval"] == written["scrape_interval"]


def test_a_limit_that_is_drawn_is_the_threshold_of_an_alert():
    """A line in a panel that says something else than the alert would mislead."""
    exprs = "\n".join(rule["expr"] for rule in ALERTS)
    limits = {panel.title: panel.limit for row in dashboard.ROWS.values() for panel in row if panel.limit is not None}
    for title, limit in limits.items():
        if title not in ("Evidence of change", "Time of /predict"):
            written = f"{limit:g}" if limit < 1e6 else f"{limit / 86400:g} * 86400"
            assert re.search(rf"(>|\*) {re.escape(written)}\b", exprs), title
