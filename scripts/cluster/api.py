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
            self.context: str = config.list_kube_config_contexts()[1]["name"]
            self._client = client.ApiClient()
            self.apps = client.AppsV1Api(self._client)
            self.core = client.CoreV1Api(self._client)
            self.scaling = client.AutoscalingV2Api(self._client)
            client.VersionApi(self._client).get_code(_request_timeout=10)
        except ConfigException:
            sys.exit("cluster: no kubeconfig; `make kind-up` or `make minikube-up` creates a cluster")
        except (HTTPError, ApiException) as error:
            sys.exit(f"cluster: {self.context} does not answer: {error}")

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

    def plain(self, part: Any) -> dict[str, Any]:
        """Part of an object as the API has it."""
        said: dict[str, Any] = self._client.sanitize_for_serialization(part)
        return said

    def pods(self, name: str = STABLE) -> list[Any]:
        """Of a Deployment, without those that end."""
        labels = self.deployment(name).spec.selector.match_labels
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self.core.list_namespaced_pod(NAMESPACE, label_selector=selector).items
        return [pod for pod in found if pod.metadata.deletion_timestamp is None]

    def rolled_out(self, name: str = STABLE, *, patient: bool = False) -> bool:
        """Whether what was asked for is what runs. Raises `RuntimeError` when it has taken too long."""
        found = self.deployment(name)
        status = found.status
        if (status.observed_generation or 0) < found.metadata.generation:
            return False
        for condition in status.conditions or []:
            if condition.type == "Progressing" and condition.reason == "ProgressDeadlineExceeded" and not patient:
                raise RuntimeError(f"{name} has not rolled out: {condition.message}")
        wanted = found.spec.replicas
        return bool(wanted == status.updated_replicas == status.available_replicas == status.replicas)

    def wait_for_rollout(self, name: str = STABLE, *, seconds: float = 300, patient: bool = False) -> None:
        """Raises `RuntimeError` where it fails or takes too long; `patient` waits though its deadline has passed."""
        until(lambda: self.rolled_out(name, patient=patient), f"{name} to roll out", seconds)

    def wait_for_all(self) -> None:
        """Until the autoscaler has what it wants at least: the first pod is there before that."""
        least = self.scaling.read_namespaced_horizontal_pod_autoscaler(STABLE, NAMESPACE).spec.min_replicas
        until(lambda: self.deployment().spec.replicas >= least, f"{least} pods", 120)
        self.wait_for_rollout()

    def ask(self, method: str, path: str, body: bytes | dict[str, Any] | None = None) -> Any:
        """What the service answers, asked through its Service by the API server: no port of this machine is needed.

        Bytes are a picture, a dictionary is JSON. Raises `RuntimeError` where the answer is an error.
        """
        content_type = "application/json" if isinstance(body, dict) else "image/png"
        try:
            answer = self._client.call_api(
                f"/api/v1/namespaces/{NAMESPACE}/services/neocog:http/proxy{path}",
                method,
                header_params={"Content-Type": content_type, "Accept": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
            )
        except ApiException as error:
            raise RuntimeError(f"{method} {path} is answered with {error.status}: {error.body!r}") from None
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
