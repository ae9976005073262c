"""What Prometheus is told, checked by Prometheus's own tool; of one process and of several."""

import re
import shutil
import subprocess

import pytest

from tests.bundles import DIGITS, png
from tests.waiting import until

PICTURES = [png(digit) for digit in DIGITS]
SERIES = {
    "neocog_requests_total", "neocog_request_duration_seconds", "neocog_stage_duration_seconds", "neocog_batch_size",
    "neocog_predictions_total", "neocog_abstained_total", "neocog_confidence", "neocog_in_flight",
    "neocog_rejected_total", "neocog_journal_queue_depth", "neocog_journal_written_total",
    "neocog_journal_dropped_total", "neocog_journal_full", "neocog_feedback_total", "neocog_reloads_total",
    "neocog_log_dropped_total", "neocog_shadow_total", "neocog_model_info",
    "neocog_model_created_timestamp_seconds",
}  # fmt: skip


def lint(text):
    """What promtool finds wrong."""
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    return subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_promtool_finds_nothing_wrong_and_all_is_counted(serve, workers):
    service = serve(workers=workers)
    for picture in PICTURES * 3:
        assert service.http.post("/predict", content=picture, headers={"Connection": "close"}).status_code == 200
    service.http.post("/predict", content=b"no image")
    # Each worker counts behind its answer, and gauges are sampled: what it says is true a moment later.
    until(lambda: service.metric('neocog_request_duration_seconds_count{route="/predict"}') == 31)
    until(lambda: service.metric("neocog_in_flight") == 0)
    text = service.http.get("/metrics").text
    assert set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)) >= SERIES
    version = service.http.get("/version").json()["version"]
    for digit in range(10):
        assert service.metric(f'neocog_predictions_total{{label="{digit}",model_version="{version}"}}') == 3
    assert service.metric('neocog_requests_total{code="200",route="/predict"}') == 30
    assert service.metric('neocog_requests_total{code="415",route="/predict"}') == 1
    assert service.metric('neocog_rejected_total{reason="not-an-image"}') == 1
    found = lint(text)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_nothing_a_client_sends_becomes_a_label(serve):
    service = serve()
    for i in range(50):
        service.http.get(f"/nowhere/{i}")
        service.http.request(f"M{i}", "/predict")
        service.http.post("/predict", content=PICTURES[0], headers={"X-Tag": str(i), "X-Request-ID": str(i)})
    text = service.http.get("/metrics").text
    routes = set(re.findall(r'neocog_requests_total\{code="\d+",route="([^"]+)"\}', text))
    assert routes <= {"other", "/predict", "/readyz", "/metrics"}
