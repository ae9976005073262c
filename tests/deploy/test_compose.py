"""The whole thing on one machine, as compose.yaml has it."""

import re
import shutil
import subprocess

import pytest
import yaml

from deploy.monitoring.retrain import SHORTEST, parsed
from service.settings import Settings
from tests.conftest import REPOSITORY

COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def test_it_is_what_compose_reads():
    client = shutil.which("docker")
    if client and subprocess.run([client, "compose", "version"], capture_output=True).returncode == 0:
        command = [client, "compose", "config", "--quiet"]
    else:
        command = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_all_are_there_and_each_says_when_it_is_well():
    assert set(SERVICES) == {
        "service", "mlflow", "postgres", "redis", "prometheus", "alertmanager", "grafana", "retrain", "watch",
    }  # fmt: skip
    for name, service in SERVICES.items():
        assert "healthcheck" in service or name == "service", name  # whose image has one
        assert service["restart"] == "unless-stopped"


def test_whoever_waits_waits_for_health():
    for service in SERVICES.values():
        for name, waited in service.get("depends_on", {}).items():
            assert name in SERVICES
            assert waited == {"condition": "service_healthy"}


def test_every_volume_that_is_named_is_used_and_the_other_way_round():
    used = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert {name for name in used if not name.startswith("./")} == set(COMPOSE["volumes"])
    for name in used:
        assert not name.startswith("./") or (REPOSITORY / name).exists()


def test_ports_are_open_on_this_machine_only():
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", ["service", "mlflow", "prometheus", "alertmanager", "grafana", "retrain", "watch"])
def test_what_needs_no_rights_is_sealed(name):
    assert SERVICES[name]["read_only"] is True
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


def test_every_setting_of_the_service_is_one():
    names = {f"NEOCOG_{name.upper()}" for name in Settings.model_fields}
    assert set(SERVICES["service"]["environment"]) <= names


def test_every_image_has_a_version_but_ours():
    for name, service in SERVICES.items():
        assert name in ("service", "mlflow", "retrain", "watch") or ":" in service["image"], name
        assert not service["image"].endswith(":latest")


def test_postgresql_is_the_platforms_and_its_volume_is_where_the_image_keeps_data():
    """From version 18 on the image's volume is /var/lib/postgresql; below, it was /var/lib/postgresql/data."""
    platform = yaml.safe_load_all((REPOSITORY / "deploy" / "platform" / "10-postgres.yaml").read_text())
    [pod] = [document["spec"]["template"]["spec"] for document in platform if document["kind"] == "StatefulSet"]
    [container] = pod["containers"]
    image = SERVICES["postgres"]["image"]
    assert container["image"] == image
    assert int(re.match(r"postgres:(\d+)-alpine$", image)[1]) >= 18
    assert "postgres:/var/lib/postgresql" in SERVICES["postgres"]["volumes"]
    assert {"name": "data", "mountPath": "/var/lib/postgresql"} in container["volumeMounts"]


def aliases(name):
    return SERVICES[name].get("networks", {}).get("default", {}).get("aliases", [])


def test_the_names_that_the_configurations_ask_for_are_here():
    """Prometheus and Alertmanager have one configuration, for the cluster's names."""
    monitoring = REPOSITORY / "deploy" / "monitoring"
    jobs = yaml.safe_load((monitoring / "prometheus.yml").read_text())["scrape_configs"]
    asked = {tuple(names["names"]): names["port"] for job in jobs for names in job["dns_sd_configs"]}
    assert asked == {tuple(aliases("service")): 8001, tuple(aliases("watch")): 9108}
    assert {"--host=0.0.0.0", "--port=9108"} <= set(SERVICES["watch"]["command"])
    for name, port in re.findall(r"http://([\w.-]+):(\d+)", (monitoring / "alertmanager.yml").read_text()):
        assert (name in aliases("retrain"), port) == (True, "9095")
    [source] = yaml.safe_load((monitoring / "grafana" / "datasource.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    targets = yaml.safe_load((monitoring / "prometheus.yml").read_text())["alerting"]["alertmanagers"]
    assert targets == [{"static_configs": [{"targets": ["alertmanager:9093"]}]}]


def test_retraining_is_the_jobs_command():
    job = yaml.safe_load((REPOSITORY / "deploy" / "training" / "cronjob.yaml").read_text())
    [container] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    here = SERVICES["retrain"]["command"][-1].replace("$$", "$")  # compose reads a single one as a variable of its own
    assert [line for line in here.splitlines() if not line.startswith("#")] == container["command"][-1].splitlines()


def test_the_command_line_of_retrain_is_one():
    command = SERVICES["retrain"]["command"]
    assert command[:3] == ["python", "-m", "deploy.monitoring.retrain"]
    options = parsed(command[3:])
    assert options.command == command[command.index("--") + 1 :]
    token = "./deploy/compose/retrain-token"
    assert f"{token}:{options.token}:ro" in SERVICES["retrain"]["volumes"]
    asked = yaml.safe_load((REPOSITORY / "deploy" / "monitoring" / "alertmanager.yml").read_text())["receivers"]
    [file] = [
        w["http_config"]["authorization"]["credentials_file"] for r in asked for w in r.get("webhook_configs", ())
    ]
    assert f"{token}:{file}:ro" in SERVICES["alertmanager"]["volumes"]
    assert len((REPOSITORY / token).read_text().strip()) >= SHORTEST


@pytest.mark.parametrize(
    ("command", "needs"),
    [
        (["promtool", "check", "config", "--syntax-only", "deploy/monitoring/prometheus.yml"], "prometheus"),
        (["amtool", "check-config", "deploy/monitoring/alertmanager.yml"], "prometheus-alertmanager"),
    ],
)
def test_the_programs_can_read_their_configurations(command, needs):
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is missing: apt-get install {needs}")
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
