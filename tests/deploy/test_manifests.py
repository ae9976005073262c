"""What `kubectl apply` would get: valid, sealed, and in agreement with the code."""

import re
import shutil
import socket
import subprocess

import httpx2
import kubernetes_validate
import pytest
import yaml

from deploy.cluster import settings
from service.app import app
from service.settings import Settings
from tests.conftest import REPOSITORY
from tests.service.conftest import in_process

VERSIONS = ["1.34", "1.35", "1.36", "1.37"]  # preStop's sleep is in all of them
PLAIN = sorted((REPOSITORY / "k8s").glob("*.yaml"))
FOLDERS = ("platform", "training", "monitoring/cluster")
MORE = [file for folder in FOLDERS for file in sorted(REPOSITORY.glob(f"deploy/{folder}/*.yaml"))]
OVERLAYS = ["k8s", *(f"deploy/overlays/{name}" for name in ("kind", "minikube", "cloud"))]
CUSTOM = {"Gateway", "HTTPRoute"}  # of the Gateway API, which no Kubernetes has by itself


def read(*files):
    return [document for file in files for document in yaml.safe_load_all(file.read_text()) if document]


BASE = {document["kind"]: document for document in read(*PLAIN)}
ALL = read(*PLAIN, *MORE)


def pod(document):
    spec = document["spec"]
    return (spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec)["template"]


PODS = [document for document in ALL if document["kind"] in ("Deployment", "StatefulSet", "Job", "CronJob")]
CONTAINERS = [container for document in PODS for container in pod(document)["spec"]["containers"]]


def names(documents):
    return [f"{d['kind']}-{d['metadata']['name']}" for d in documents]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("document", ALL, ids=names(ALL))
def test_every_manifest_is_valid_to_the_letter(document, version):
    kubernetes_validate.validate(document, version, strict=True)


def test_a_letter_too_many_would_be_seen():
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(BASE["Service"] | {"spec": {"port": []}}, VERSIONS[-1], strict=True)


@pytest.fixture(scope="module")
def built():
    if (kubectl := shutil.which("kubectl")) is None:
        pytest.skip("kubectl is missing: https://kubernetes.io/docs/tasks/tools/")

    def build(folder):
        ran = subprocess.run([kubectl, "kustomize", folder], cwd=REPOSITORY, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return list(yaml.safe_load_all(ran.stdout))

    return build


@pytest.mark.parametrize("folder", OVERLAYS)
def test_every_overlay_builds_and_is_valid(built, folder):
    documents = built(folder)
    assert {d["kind"] for d in documents} >= set(BASE)
    for document in documents:
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, "1.36", strict=True)


def test_kustomize_lists_every_file_and_changes_nothing(built):
    assert yaml.safe_load((REPOSITORY / "k8s" / "Kustomization").read_text())["resources"] == [f.name for f in PLAIN]
    key = lambda document: (document["kind"], document["metadata"]["name"])  # noqa: E731
    assert sorted(built("k8s"), key=key) == sorted(read(*PLAIN), key=key)


def test_apply_f_reads_no_other_file():
    assert {path.suffix for path in (REPOSITORY / "k8s").iterdir() if path.name != "Kustomization"} == {".yaml"}
    assert [path.name[:2] for path in PLAIN] == sorted(path.name[:2] for path in PLAIN)
    assert read(PLAIN[0])[0]["kind"] == "Namespace"


def test_the_cloud_overlay_differs_where_it_should(built):
    documents = {document["kind"]: document for document in built("deploy/overlays/cloud")}
    [container] = pod(documents["Deployment"])["spec"]["containers"]
    assert "@sha256:" in container["image"]
    assert {entry["name"] for entry in container["env"]} == {"NEOCOG_JOURNAL", "NEOCOG_REDIS"}
    keys = [c["topologyKey"] for c in pod(documents["Deployment"])["spec"]["topologySpreadConstraints"]]
    assert "topology.kubernetes.io/zone" in keys
    [listener] = documents["Gateway"]["spec"]["listeners"]
    assert listener["protocol"] == "HTTPS"
    [backend] = documents["HTTPRoute"]["spec"]["rules"][0]["backendRefs"]
    assert (backend["name"], backend["port"]) == ("neocog", BASE["Service"]["spec"]["ports"][0]["port"])


def test_the_gateway_has_a_namespace_of_its_own_and_takes_routes_of_the_service_only(built):
    """Some controllers run their proxy beside the Gateway, where the service's default-deny policy would cut it off."""
    documents = built("deploy/overlays/cloud")
    [gateway], [route] = ([d for d in documents if d["kind"] == kind] for kind in ("Gateway", "HTTPRoute"))
    home = gateway["metadata"]["namespace"]
    [namespace] = [d for d in documents if d["kind"] == "Namespace" and d["metadata"]["name"] == home]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "baseline"
    assert home not in {d["metadata"]["namespace"] for d in documents if d["kind"] == "NetworkPolicy"}
    service = route["metadata"]["namespace"]
    assert service == BASE["Service"]["metadata"]["namespace"] != home
    [parent] = route["spec"]["parentRefs"]
    [listener] = gateway["spec"]["listeners"]
    assert parent == {"name": gateway["metadata"]["name"], "namespace": home, "sectionName": listener["name"]}
    assert listener["allowedRoutes"]["namespaces"] == {
        "from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": service}},
    }  # fmt: skip
    assert route["spec"]["hostnames"] == [listener["hostname"]]


def test_the_gateway_lets_through_every_route_but_those_of_operations(built):
    """Held against the one table of routes, so that a new route is either let through or named here."""
    [route] = [d for d in built("deploy/overlays/cloud") if d["kind"] == "HTTPRoute"]
    rules = [match["path"] for match in route["spec"]["rules"][0]["matches"]]

    def passes(path):
        return any(
            path == rule["value"] or (rule["type"] == "PathPrefix" and path.startswith(rule["value"].rstrip("/") + "/"))
            for rule in rules
        )

    inside = {
        "/livez",
        "/readyz",
        "/metrics",
        "/redoc",
    }  # asked by the kubelet and Prometheus; one documentation is enough
    assert {path for _, path in app.table.paths if not passes(path)} == inside


def test_routes_that_the_gateway_lets_through_exist(built, bundle_folder):
    [route] = [d for d in built("deploy/overlays/cloud") if d["kind"] == "HTTPRoute"]
    with in_process(bundle_folder) as client:
        for match in route["spec"]["rules"][0]["matches"]:
            path = match["path"]["value"].replace("/v2", "/v2/health/live")
            assert client.get(path).status_code in (200, 403, 405), path  # 403: nobody has a key for /label here


@pytest.mark.parametrize("namespace", ["neocog", "neocog-platform", "neocog-monitoring"])
def test_every_namespace_enforces_the_restricted_standard_and_denies_by_default(namespace):
    [found] = [d for d in ALL if d["kind"] == "Namespace" and d["metadata"]["name"] == namespace]
    assert found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    [deny] = [
        d for d in ALL if d["kind"] == "NetworkPolicy" and d["metadata"]["namespace"] == namespace
        and d["spec"]["podSelector"] == {}  and set(d["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    ]  # fmt: skip
    assert not deny["spec"].keys() & {"ingress", "egress"}


@pytest.mark.parametrize("document", PODS, ids=names(PODS))
def test_every_pod_is_sealed(document):
    spec = pod(document)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert set(container["resources"]["requests"]) == {"cpu", "memory", "ephemeral-storage"}
        assert set(container["resources"]["limits"]) == {"memory", "ephemeral-storage"}
        assert ":" in container["image"]
        assert not container["image"].endswith(":latest")
    for volume in spec["volumes"]:
        bounded = {"persistentVolumeClaim", "configMap", "secret", "projected"} & volume.keys()
        assert bounded or "sizeLimit" in volume["emptyDir"]


def test_every_container_that_serves_says_how_it_is():
    for document in PODS:
        if document["kind"] not in ("Job", "CronJob"):
            for container in pod(document)["spec"]["containers"]:
                assert container.keys() >= {"startupProbe", "readinessProbe", "livenessProbe"}


def test_selectors_find_their_pods():
    labels = pod(BASE["Deployment"])["metadata"]["labels"]
    for selector in (
        BASE["Deployment"]["spec"]["selector"]["matchLabels"],
        BASE["Service"]["spec"]["selector"],
        BASE["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        BASE["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert "neocog/track" not in BASE["Service"]["spec"]["selector"]  # a canary is behind it, too
    target = BASE["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", BASE["Deployment"]["metadata"]["name"])
    for document in ALL:
        if document["kind"] == "Service":
            [found] = [
                d for d in PODS if d["metadata"]["name"] == document["spec"]["selector"]["app.kubernetes.io/name"]
                and d["metadata"]["namespace"] == document["metadata"]["namespace"] and d["kind"] != "CronJob"
            ]  # fmt: skip
            assert document["spec"]["selector"].items() <= pod(found)["metadata"]["labels"].items()
            ports = {port["name"] for port in pod(found)["spec"]["containers"][0]["ports"]}
            assert {port["targetPort"] for port in document["spec"]["ports"]} <= ports


PROBE_PORT = int(re.search(r"NEOCOG_PROBE_PORT=(\d+)", (REPOSITORY / "Dockerfile").read_text())[1])


def test_probes_and_prometheus_ask_paths_that_exist_at_the_port_for_them(serve):
    [container] = pod(BASE["Deployment"])["spec"]["containers"]
    assert container["ports"] == [
        {"name": "http", "containerPort": Settings.model_fields["port"].default},
        {"name": "probes", "containerPort": PROBE_PORT},
    ]
    assert "NEOCOG_PROBE_PORT" not in BASE["ConfigMap"]["data"]  # the image's is meant
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve(probe_port=port)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == "probes"
        path = container[probe]["httpGet"]["path"]
        assert httpx2.get(f"http://127.0.0.1:{port}{path}", timeout=120).status_code == 200
    noted = pod(BASE["Deployment"])["metadata"]["annotations"]
    assert noted["prometheus.io/port"] == str(PROBE_PORT)
    assert "neocog_" in httpx2.get(f"http://127.0.0.1:{port}{noted['prometheus.io/path']}", timeout=120).text
    assert container["livenessProbe"]["httpGet"]["path"] != container["readinessProbe"]["httpGet"]["path"]


def test_a_rollout_takes_no_pod_before_another_is_ready():
    spec = BASE["Deployment"]["spec"]
    assert "replicas" not in spec
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert BASE["HorizontalPodAutoscaler"]["spec"]["minReplicas"] >= 2
    assert BASE["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_the_kubelet_waits_for_the_whole_leave():
    data = BASE["ConfigMap"]["data"]
    spec = pod(BASE["Deployment"])["spec"]
    asleep = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    leave = asleep + float(data["NEOCOG_DRAIN_SECONDS"]) + float(data["NEOCOG_GRACE_SECONDS"])
    assert asleep >= 5
    assert leave < spec["terminationGracePeriodSeconds"]


def test_settings_are_settings_and_named_by_their_content(monkeypatch):
    configmap = BASE["ConfigMap"]
    assert configmap["immutable"] is True
    assert configmap["metadata"]["name"] == settings.name(configmap["data"])
    [container] = pod(BASE["Deployment"])["spec"]["containers"]
    assert container["envFrom"] == [{"configMapRef": {"name": configmap["metadata"]["name"]}}]
    assert set(configmap["data"]) <= {f"NEOCOG_{name.upper()}" for name in Settings.model_fields}
    for name, value in configmap["data"].items():
        monkeypatch.setenv(name, value)
    chosen = Settings.from_environment()
    volumes = {volume["name"]: volume["emptyDir"]["sizeLimit"] for volume in pod(BASE["Deployment"])["spec"]["volumes"]}
    assert chosen.journal_max_bytes < int(volumes["data"].removesuffix("Mi")) * 2**20 * 0.8


def test_every_secret_that_is_used_is_made_by_somebody():
    used = set(re.findall(r"secretKeyRef: \{name: ([\w-]+)", "".join(f.read_text() for f in MORE)))
    assert used == {"postgres", "neocog-backends"}
    assert "create secret generic neocog-backends" in (REPOSITORY / "deploy" / "training" / "watch.yaml").read_text()
    assert '"postgres"' in (REPOSITORY / "deploy" / "cluster" / "platform.py").read_text()


def test_training_speaks_to_the_platform():
    [mlflow] = [d for d in ALL if d["kind"] == "Service" and d["metadata"]["name"] == "mlflow"]
    for document in (d for d in PODS if d["kind"] in ("Job", "CronJob")):
        [container] = pod(document)["spec"]["containers"]
        uri = {entry["name"]: entry.get("value") for entry in container["env"]}["MLFLOW_TRACKING_URI"]
        assert uri == f"http://mlflow.{mlflow['metadata']['namespace']}:{mlflow['spec']['ports'][0]['port']}"
    [server] = [d for d in PODS if d["metadata"].get("name") == "mlflow"]
    [hosts] = [a for a in pod(server)["spec"]["containers"][0]["command"] if a.startswith("--allowed-hosts=")]
    assert uri.removeprefix("http://") in hosts.removeprefix("--allowed-hosts=").split(",")


def test_everything_can_be_applied():
    """A `generateName` could only be created."""
    assert all(document["metadata"].get("name") for document in ALL)


def test_kind_maps_the_port_of_its_overlay(built):
    [node] = [
        n
        for n in yaml.safe_load((REPOSITORY / "deploy/kind/cluster.yaml").read_text())["nodes"]
        if "extraPortMappings" in n
    ]
    [service] = [d for d in built("deploy/overlays/kind") if d["kind"] == "Service"]
    assert node["extraPortMappings"][0]["containerPort"] == service["spec"]["ports"][0]["nodePort"]
