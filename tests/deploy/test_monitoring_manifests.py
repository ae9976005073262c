"""deploy/monitoring in a cluster: what `kubectl apply -k` would send, and whether its parts find each other."""

import re

import kubernetes_validate
import pytest
import yaml

from deploy.monitoring import retrain
from tests.conftest import REPOSITORY
from tests.deploy.test_manifests import ALL, PODS, built, pod  # noqa: F401 - a fixture

MONITORING = REPOSITORY / "deploy" / "monitoring"
COMPOSE = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())["services"]
OURS = {"prometheus", "alertmanager", "grafana", "retrain"}
WORKLOADS = {d["metadata"]["name"]: d for d in PODS if d["metadata"]["name"] in OURS and d["kind"] == "Deployment"}


def test_kustomize_builds_it_and_every_document_is_valid(built):  # noqa: F811
    documents = built("deploy/monitoring")
    for document in documents:
        kubernetes_validate.validate(document, "1.36", strict=True)
    files = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())["resources"]
    assert files == sorted(f"cluster/{file.name}" for file in (MONITORING / "cluster").iterdir())
    # Every ConfigMap that a pod mounts is one that is made, under its hashed name; only the cluster's own is not.
    made = {d["metadata"]["name"] for d in documents if d["kind"] == "ConfigMap"}
    assert {name.rpartition("-")[0] for name in made} == {"prometheus", "alertmanager", "grafana"}
    text = yaml.safe_dump([d for d in documents if d["kind"] == "Deployment"])
    assert set(re.findall(r"configMap:\n(?:\s+items:\n(?:\s+(?:-|path).*\n)+)?\s+name: (\S+)", text)) == made | {
        "kube-root-ca.crt"
    }


@pytest.mark.parametrize("name", sorted(OURS - {"retrain"}))
def test_an_image_is_composes(name):
    [container] = pod(WORKLOADS[name])["spec"]["containers"]
    assert container["image"] == COMPOSE[name]["image"]


def test_grafana_is_set_as_in_compose():
    [container] = pod(WORKLOADS["grafana"])["spec"]["containers"]
    assert {entry["name"]: entry["value"] for entry in container["env"]} == COMPOSE["grafana"]["environment"]


def test_prometheus_finds_every_pod_of_the_service_by_a_name():
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    [asked] = config["scrape_configs"][0]["dns_sd_configs"]
    [service] = [
        d
        for d in ALL
        if d["kind"] == "Service" and d["spec"].get("clusterIP") == "None" and d["metadata"]["namespace"] == "neocog"
    ]
    assert asked["names"] == [f"{service['metadata']['name']}.{service['metadata']['namespace']}"]
    assert asked["port"] == service["spec"]["ports"][0]["port"]
    assert service["spec"]["selector"] == {"app.kubernetes.io/name": "neocog"}  # of a canary, too


def allowed(source, target, port):
    """Whether the policies let a pod of one name reach another's port, at both ends."""
    named = lambda peer: peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]  # noqa: E731
    policies = [d["spec"] for d in ALL if d["kind"] == "NetworkPolicy"]
    chosen = lambda policy, name: policy["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name") == name  # noqa: E731
    out = any(
        named(peer) == target and {p["port"] for p in rule["ports"]} == {port}
        for policy in policies if chosen(policy, source)
        for rule in policy.get("egress", ()) for peer in rule.get("to", ())
    )  # fmt: skip
    into = [rule for policy in policies if chosen(policy, target) for rule in policy.get("ingress", ())]
    return out and any("from" not in rule or any(named(peer) == source for peer in rule["from"]) for rule in into)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        ("prometheus", "neocog", 8001),
        ("prometheus", "alertmanager", 9093),
        ("grafana", "prometheus", 9090),
        ("alertmanager", "retrain", 9095),
    ],
)
def test_whoever_asks_may(source, target, port):
    assert allowed(source, target, port)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [("grafana", "retrain", 9095), ("alertmanager", "neocog", 8001), ("prometheus", "retrain", 9095)],
)
def test_nobody_else_may(source, target, port):
    assert not allowed(source, target, port)


def test_alertmanager_calls_the_receiver_and_both_have_the_token():
    config = yaml.safe_load((MONITORING / "alertmanager.yml").read_text())
    [webhook] = [webhook for receiver in config["receivers"] for webhook in receiver.get("webhook_configs", ())]
    [service] = [d for d in ALL if d["kind"] == "Service" and d["metadata"]["name"] == "retrain"]
    meta, [port] = service["metadata"], service["spec"]["ports"]
    assert webhook["url"] == f"http://{meta['name']}.{meta['namespace']}:{port['port']}/"
    [config] = [v for v in pod(WORKLOADS["alertmanager"])["spec"]["volumes"] if v["name"] == "config"]
    [secret] = [source["secret"] for source in config["projected"]["sources"] if "secret" in source]
    [mount] = [
        m for m in pod(WORKLOADS["alertmanager"])["spec"]["containers"][0]["volumeMounts"] if m["name"] == "config"
    ]
    file = webhook["http_config"]["authorization"]["credentials_file"]
    assert f"{mount['mountPath']}/{secret['items'][0]['path']}" == file
    [token] = [v["secret"] for v in pod(WORKLOADS["retrain"])["spec"]["volumes"] if v["name"] == "token"]
    assert token["secretName"] == secret["name"]
    assert token["items"][0]["key"] == secret["items"][0]["key"]


def test_the_receiver_may_make_a_job_of_the_cronjob_and_no_more():
    [role] = [d for d in ALL if d["kind"] == "Role"]
    [cron] = [d for d in ALL if d["kind"] == "CronJob"]
    assert role["metadata"]["namespace"] == cron["metadata"]["namespace"]
    assert role["rules"] == [
        {
            "apiGroups": ["batch"],
            "resources": ["cronjobs"],
            "resourceNames": [cron["metadata"]["name"]],
            "verbs": ["get"],
        },
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "list"]},
    ]
    [container] = pod(WORKLOADS["retrain"])["spec"]["containers"]
    assert container["command"][:3] == ["python", "-m", "deploy.monitoring.retrain"]
    options = retrain.parsed(container["command"][3:])
    assert options.job == f"{cron['metadata']['namespace']}/{cron['metadata']['name']}"
    assert options.port == container["ports"][0]["containerPort"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(options.token) == f"{mounts['token']}/token"
    assert mounts["account"] == str(retrain.ACCOUNT)
    assert not [d for d in ALL if d["kind"] in ("ClusterRole", "ClusterRoleBinding")]


def test_the_receivers_code_is_in_the_training_image():
    assert "!deploy/monitoring/retrain.py" in (REPOSITORY / ".dockerignore").read_text().splitlines()
