"""What `make kind-up` waits for. No cluster is needed: the client parses the documents as it parses an answer."""

import json
import re
from types import SimpleNamespace

import pytest
import yaml
from kubernetes import client

from deploy.cluster.up import cpu
from tests.conftest import REPOSITORY

RESOURCE = {
    "type": "Resource",
    "resource": {"name": "cpu", "current": {"averageValue": "92m", "averageUtilization": 37}},
}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, None),  # new: the controller has not seen it
        ({"desiredReplicas": 2}, None),
        ({"desiredReplicas": 2, "currentMetrics": None}, None),
        ({"desiredReplicas": 2, "currentMetrics": [{"type": ""}]}, None),  # metrics-server does not answer yet
        ({"desiredReplicas": 2, "currentMetrics": [RESOURCE]}, 37),
    ],
)
def test_the_autoscaler_has_a_figure_or_none(status, expected):
    spec = {"maxReplicas": 6, "scaleTargetRef": {"kind": "Deployment", "name": "neocog"}}
    answer = SimpleNamespace(data=json.dumps({"spec": spec} | ({"status": status} if status else {})))
    found = client.ApiClient().deserialize(answer, "V2HorizontalPodAutoscaler")
    scaling = SimpleNamespace(read_namespaced_horizontal_pod_autoscaler=lambda name, namespace: found)
    assert cpu(SimpleNamespace(scaling=scaling)) == expected


def test_the_metrics_server_has_a_version():
    folder = REPOSITORY / "deploy" / "kind" / "metrics-server"
    [resource] = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    assert re.search(r"/releases/download/v\d+\.\d+\.\d+/components\.yaml$", resource)
