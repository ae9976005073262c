"""The whole way of an alert, with real programs: service, Prometheus, Alertmanager, and whoever is told."""

import contextlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx2
import prometheus_client
import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.waiting import until

MONITORING = REPOSITORY / "deploy" / "monitoring"
TOKEN = "a-token-of-the-test"
pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Told(http.server.ThreadingHTTPServer):
    """A webhook. `alerts` has the alerts that came, by the path that they came to."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Webhook)
        self.alerts, self.address = {}, f"http://127.0.0.1:{self.server_address[1]}"

    def names(self, path):
        return {alert["labels"]["alertname"] for alert in self.alerts.get(path, ())}


class Webhook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.alerts.setdefault(self.path, []).extend(told["alerts"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def running(tmp_path):
    """Starts programs; they are stopped after the test, the last one first. Skips where one is missing."""
    started = contextlib.ExitStack()

    def start(program, *arguments, cwd=tmp_path, **env):
        found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
        if found is None:
            pytest.skip(f"{program} is missing: apt-get install prometheus prometheus-alertmanager")
        log = started.enter_context((tmp_path / f"{Path(program).name}.log").open("wb"))
        process = subprocess.Popen([found, *arguments], cwd=cwd, env=os.environ | env, stdout=log, stderr=log)
        started.callback(process.wait, timeout=120)
        started.callback(process.terminate)
        return process

    with started:
        yield start


@pytest.fixture
def told():
    server = Told()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def watch():
    """What `pipelines.watch` tells Prometheus, by the names that it uses."""
    registry = prometheus_client.CollectorRegistry()
    alarm = prometheus_client.Gauge(
        "neocog_drift_alarm", "1 for an alarm", ["kind", "model_version"], registry=registry
    )
    server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry=registry)
    alarm.port = server.server_port
    yield alarm
    server.shutdown()
    thread.join()
    server.server_close()


def answers(url):
    with contextlib.suppress(httpx2.HTTPError):
        return httpx2.get(url, timeout=120).status_code == 200


@pytest.fixture
def alertmanager(running, told, tmp_path):
    """Alertmanager with the project's routes: people and tickets have a webhook, and messages do not wait."""
    config = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())
    config["route"]["group_wait"] = "0s"
    (tmp_path / "token").write_text(TOKEN)
    port, retrain = free_port(), free_port()
    for receiver in config["receivers"]:
        if receiver["name"] == "retrain":
            [webhook] = receiver["webhook_configs"]
            webhook["url"] = f"http://127.0.0.1:{retrain}/"
            webhook["http_config"]["authorization"]["credentials_file"] = str(tmp_path / "token")
        else:
            receiver["webhook_configs"] = [{"url": f"{told.address}/{receiver['name']}"}]
    (tmp_path / "alertmanager.yml").write_text(json.dumps(config))
    module, command = ["-m", "deploy.monitoring.retrain"], ["touch", str(tmp_path / "retrained")]
    running(
        sys.executable, *module, "--port", str(retrain), "--token", str(tmp_path / "token"), "--", *command,
        cwd=REPOSITORY,
    )  # fmt: skip
    running(
        "prometheus-alertmanager", "--config.file=alertmanager.yml", f"--storage.path={tmp_path / 'alerts'}",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    )  # fmt: skip
    until(lambda: answers(f"http://127.0.0.1:{port}/-/ready") and answers(f"http://127.0.0.1:{retrain}/livez"))
    return f"127.0.0.1:{port}"


class Prometheus:
    def __init__(self, address):
        self.address = address

    def value(self, query):
        """Of the one series that a query finds; None where it finds none."""
        answer = httpx2.get(f"{self.address}/api/v1/query", params={"query": query}, timeout=120).json()
        found = answer["data"]["result"]
        return float(found[0]["value"][1]) if found else None


@pytest.fixture
def prometheus(running, tmp_path):
    """Starts Prometheus with the project's rules; it looks each second at the targets that are given."""

    def start(alertmanager, **targets):
        config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(MONITORING / "rules.yml")]
        config["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
        for job in config["scrape_configs"]:
            del job["dns_sd_configs"]
            job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        address = f"127.0.0.1:{free_port()}"
        running(
            "prometheus", "--config.file=prometheus.yml", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address={address}",
        )  # fmt: skip
        until(lambda: answers(f"http://{address}/-/ready"))
        return Prometheus(f"http://{address}")

    return start


def test_an_alert_arrives_and_harm_starts_a_retraining(
    serve, bundle_folder, told, watch, alertmanager, prometheus, tmp_path
):
    shutil.copytree(bundle_folder, tmp_path / "bundle")
    service = serve(bundle=tmp_path / "bundle", reload_seconds=0.1)
    version = service.http.get("/version").json()["version"]
    watch.labels("harm", version).set(0)
    server = prometheus(alertmanager, neocog=f"127.0.0.1:{service.port}", watch=f"127.0.0.1:{watch.port}")
    until(lambda: server.value(f'neocog:model_served{{model_version="{version}"}}') == 1)
    until(lambda: server.value('neocog_reloads_total{result="refused"}') == 0)
    assert not told.alerts

    (tmp_path / "bundle" / "model.onnx").write_bytes(b"no model")
    until(lambda: "NeocogReloadRefused" in told.names("/tickets"))
    [alert] = [alert for alert in told.alerts["/tickets"] if alert["labels"]["alertname"] == "NeocogReloadRefused"]
    base = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["global"]["external_labels"]["runbooks"]
    assert alert["labels"] == {"alertname": "NeocogReloadRefused", "severity": "ticket"}
    assert alert["annotations"]["runbook_url"] == f"{base}#neocogreloadrefused"
    assert not (tmp_path / "retrained").exists()

    watch.labels("harm", version).set(1)
    until((tmp_path / "retrained").exists)
    until(lambda: "NeocogHarm" in told.names("/people"))
    assert "NeocogHarm" not in told.names("/tickets")
    rules = httpx2.get(f"{server.address}/api/v1/rules", timeout=120).json()["data"]["groups"]
    assert {rule["health"] for group in rules for rule in group["rules"]} == {"ok"}
    assert server.value("count(up == 1)") == 2
