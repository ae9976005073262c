"""The cluster of kubectl's current context, and what every script here asks of it."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from urllib3.exceptions import HTTPError
from websocket import WebSocketBadStatusException

NAMESPACE: Final = "neocog"
STABLE: Final = "neocog"
CANARY: Final = "neocog-canary"
PICTURE: Final = Path("samples/clean-3.png")
TIMEOUT: Final = 60  # seconds for one request to the API server


class ClusterError(RuntimeError):
    """The cluster can't be reached, refused a request, or did not do something in time. The message is one line."""


@contextmanager
def one_line(prog: str) -> Iterator[None]:
    """Ends the program with `prog: what went wrong` and a non-zero exit status. Every `main` here runs inside it."""
    try:
        yield
    except (ClusterError, ApiException, HTTPError) as error:
        sys.exit(f"{prog}: {told(error)}")
    except KeyboardInterrupt:
        print(f"{prog}: interrupted", file=sys.stderr)
        sys.exit(130)


def told(error: Exception) -> str:
    """What an error says, in one line."""
    if isinstance(error, HTTPError):
        said = f"the API server does not answer: {getattr(error, 'reason', None) or error}"
    elif isinstance(error, ApiException):
        said = f"the API server answers {error.status}: {_message(error)}"
        if not error.status:  # there was no answer: TLS, or a websocket that closed
            said = f"the connection to the API server failed: {error.reason}"
    else:
        said = str(error)
    return " ".join(said.split())


def _message(error: ApiException) -> str:
    """The API server explains most errors in a `Status` object; a proxy before it may answer with anything."""
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)


class _Client(client.ApiClient):  # type: ignore[misc] # the package has no types
    """The package's client, with a time limit for each request and a usable exception for each failure.

    The package wraps whatever stops a websocket or a TLS handshake in an `ApiException` without a body, then decodes
    that body. What arrives is `AttributeError: 'NoneType' object has no attribute 'decode'`.
    """

    def call_api(self, *arguments: Any, **named: Any) -> Any:
        named["_request_timeout"] = named.get("_request_timeout") or TIMEOUT
        try:
            return super().call_api(*arguments, **named)
        except AttributeError as error:
            failure = error.__context__
            if not isinstance(failure, ApiException):
                raise
            cause = failure.__context__
            if isinstance(cause, (KeyboardInterrupt, SystemExit)):
                raise cause from None
            if isinstance(cause, WebSocketBadStatusException):
                failure.status, failure.reason, failure.body = cause.status_code, cause.status_message, cause.resp_body
            raise failure from None


def current_context() -> str:
    """The name of kubectl's current context. Asks the cluster nothing."""
    try:
        return str(config.list_kube_config_contexts()[1]["name"])
    except ConfigException:
        said = "kubectl has no current context; `make kind-up` or `make minikube-up` creates a cluster"
        raise ClusterError(said) from None


def is_local(context: str) -> bool:
    """Whether `make kind-up` or `make minikube-up` made it: kind's contexts, and the profile `neocog` of minikube."""
    return context.startswith("kind-") or context == "neocog"


class Cluster:
    """Raises `ClusterError` where there is no cluster that answers."""

    def __init__(self) -> None:
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # a warning for each retry, before the one line
        self.context = current_context()
        try:
            config.load_kube_config()
        except ConfigException as error:
            raise ClusterError(f"the kubeconfig is not valid: {error}") from None
        self._client = _Client()
        self.apps = client.AppsV1Api(self._client)
        self.core = client.CoreV1Api(self._client)
        self.scaling = client.AutoscalingV2Api(self._client)
        try:
            client.VersionApi(self._client).get_code(_request_timeout=10)
        except (HTTPError, ApiException) as error:
            raise ClusterError(f"{self.context} can't be reached: {told(error)}") from None

    def deployment(self, name: str = STABLE) -> Any:
        """Raises `ClusterError` where there is none of that name."""
        try:
            return self.apps.read_namespaced_deployment(name, NAMESPACE)
        except ApiException as error:
            if error.status != 404:
                raise
            said = f"no Deployment {name} in {NAMESPACE}; `kubectl apply -f k8s/` makes the stable one"
            raise ClusterError(said) from None

    def exists(self, name: str) -> bool:
        found = self.apps.list_namespaced_deployment(NAMESPACE, field_selector=f"metadata.name={name}")
        return bool(found.items)

    def plain(self, part: Any) -> dict[str, Any]:
        """Part of an object as the API has it."""
        said: dict[str, Any] = self._client.sanitize_for_serialization(part)
        return said

    def pods(self, name: str = STABLE, *, terminating: bool = False) -> list[Any]:
        """A Deployment's pods; those that are being deleted only if `terminating`."""
        labels = self.deployment(name).spec.selector.match_labels
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self.core.list_namespaced_pod(NAMESPACE, label_selector=selector).items
        return [pod for pod in found if terminating or pod.metadata.deletion_timestamp is None]

    def observed(self, name: str = STABLE) -> bool:
        """Whether the Deployment controller has seen the last change."""
        found = self.deployment(name)
        return bool((found.status.observed_generation or 0) >= found.metadata.generation)

    def rolled_out(self, name: str = STABLE, *, patient: bool = False) -> bool:
        """Whether the pods that run are those that were asked for. Raises `ClusterError` if the rollout has failed."""
        found = self.deployment(name)
        status = found.status
        if (status.observed_generation or 0) < found.metadata.generation:
            return False
        for condition in status.conditions or []:
            if condition.type == "Progressing" and condition.reason == "ProgressDeadlineExceeded" and not patient:
                raise ClusterError(f"{name} has not rolled out: {condition.message}")
        wanted = found.spec.replicas
        return bool(wanted == status.updated_replicas == status.available_replicas == status.replicas)

    def wait_for_rollout(self, name: str = STABLE, *, seconds: float = 300, patient: bool = False) -> None:
        """Raises `ClusterError` where it fails or takes too long. `patient` waits on after the progress deadline."""
        until(lambda: self.rolled_out(name, patient=patient), f"{name} to roll out", seconds)

    def wait_for_all(self) -> None:
        """Until the autoscaler has set its minimum and those pods are ready: the first pod is ready before that."""
        least = self.scaling.read_namespaced_horizontal_pod_autoscaler(STABLE, NAMESPACE).spec.min_replicas
        until(lambda: self.deployment().spec.replicas >= least, f"{least} pods", 120)
        self.wait_for_rollout()

    def ask(self, method: str, path: str, body: bytes | dict[str, Any] | None = None) -> Any:
        """What the service answers. The API server passes the request on, so no port of this machine is needed.

        Bytes are a picture, a dictionary is JSON. Raises `ClusterError` where the answer is an error.
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
            raise ClusterError(
                f"{method} {path} is answered with {error.status}: {error.body or error.reason}"
            ) from None
        return json.loads(answer.data)


def until(holds: Callable[[], bool], what: str, seconds: float) -> None:
    """Raises `ClusterError` when it does not hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {seconds:g} seconds for {what}")
        time.sleep(0.5)


def kubectl(*arguments: str) -> None:
    """Raises `ClusterError` where it fails. Its own message is on the terminal by then."""
    if subprocess.run(["kubectl", *arguments], check=False).returncode:
        raise ClusterError(f"kubectl {' '.join(arguments[:3])} failed")


def show(namespace: str) -> None:
    """Prints pods and events, beside an error that is raised next."""
    subprocess.run(["kubectl", "get", "pods,events", "--namespace", namespace], check=False)
