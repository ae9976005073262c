"""The cluster that kubectl's current context names, and what all of these scripts ask of it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError

NAMESPACE: Final = "neocog"
STABLE: Final = "neocog"
CANARY: Final = "neocog-canary"
PICTURE: Final = Path("samples/clean-3.png")


class Cluster:
    """Exits with one line where there is no cluster to be reached."""

    def __init__(self) -> None:
        try:
            config.load_kube_config()
            self._client = client.ApiClient()
            self.apps = client.AppsV1Api(self._client)
            self.core = client.CoreV1Api(self._client)
            self.batch = client.BatchV1Api(self._client)
            self.policy = client.PolicyV1Api(self._client)
            client.VersionApi(self._client).get_code(_request_timeout=10)
        except ConfigException:
            sys.exit("cluster: no kubeconfig; `make kind-up` or `make minikube-up` creates a cluster")
        except (HTTPError, ApiException) as error:
            sys.exit(f"cluster: {config.list_kube_config_contexts()[1]['name']} does not answer: {error}")

    def deployment(self, name: str = STABLE) -> Any:
        """Exits where there is none of that name."""
        try:
            return self.apps.read_namespaced_deployment(name, NAMESPACE)
        except ApiException as error:
            if error.status != 404:
                raise
            sys.exit(f"cluster: no Deployment {name} in {NAMESPACE}; `kubectl apply -f k8s/` makes the stable one")

    def exists(self, name: str) -> bool:
        found = self.apps.list_namespaced_deployment(NAMESPACE, field_selector=f"metadata.name={name}")
        return bool(found.items)

    def pods(self, name: str = STABLE) -> list[Any]:
        """Of a Deployment, without those that end."""
        labels = self.deployment(name).spec.selector.match_labels
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self.core.list_namespaced_pod(NAMESPACE, label_selector=selector).items
        return [pod for pod in found if pod.metadata.deletion_timestamp is None]

    def rolled_out(self, name: str = STABLE) -> bool:
        """Whether what was asked for is what runs. Raises `RuntimeError` when it has taken too long."""
        found = self.deployment(name)
        status = found.status
        if (status.observed_generation or 0) < found.metadata.generation:
            return False
        for condition in status.conditions or []:
            if condition.type == "Progressing" and condition.reason == "ProgressDeadlineExceeded":
                raise RuntimeError(f"{name} has not rolled out: {condition.message}")
        wanted = found.spec.replicas
        return bool(wanted == status.updated_replicas == status.available_replicas == status.replicas)

    def wait_for_rollout(self, name: str = STABLE, *, seconds: float = 300) -> None:
        """Raises `RuntimeError` where it fails or takes too long."""
        until(lambda: self.rolled_out(name), f"{name} to roll out", seconds)

    def ask(self, method: str, path: str, body: bytes | None = None, content_type: str = "image/png") -> Any:
        """What the service answers, asked through its Service by the API server: no port of this machine is needed."""
        answer = self._client.call_api(
            f"/api/v1/namespaces/{NAMESPACE}/services/neocog:http/proxy{path}",
            method,
            header_params={"Content-Type": content_type, "Accept": "application/json"},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _return_http_data_only=True,
        )
        return json.loads(answer.data)


def until(holds: Callable[[], bool], what: str, seconds: float) -> None:
    """Raises `RuntimeError` when it does not hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {seconds:g} seconds for {what}")
        time.sleep(0.5)


def kubectl(*arguments: str) -> None:
    """Exits where it fails; it has said why."""
    if subprocess.run(["kubectl", *arguments], check=False).returncode:
        sys.exit(f"cluster: kubectl {' '.join(arguments[:3])} failed")
