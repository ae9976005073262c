"""A cluster on this machine with the service in it: `make kind-up`, `make minikube-up`. There already? Then it is used.

python -m deploy.cluster.up kind|minikube [--plain]
"""

import argparse
import shutil
import subprocess
import time
from typing import Final

from deploy.cluster.api import (
    NAMESPACE,
    PICTURE,
    STABLE,
    Cluster,
    ClusterError,
    current_context,
    is_local,
    kubectl,
    one_line,
    show,
    until,
)
from deploy.image.build import docker

IMAGE: Final = "neocog:dev"
TRIES: Final = 3  # kind's control plane now and then doesn't come up on a busy machine
INSTALL: Final = {
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "minikube": "https://minikube.sigs.k8s.io/docs/start/",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
}


@one_line("cluster")
def main() -> None:
    parser = argparse.ArgumentParser(prog="cluster")
    parser.add_argument("kind", choices=("kind", "minikube"))
    parser.add_argument("--plain", action="store_true", help="kubectl apply -f k8s/, instead of the overlay")
    options = parser.parse_args()
    need(options.kind, "kubectl")
    client = docker()
    made = _image_id(client)
    {"kind": kind, "minikube": minikube}[options.kind]()
    kubectl("apply", *(["-f", "k8s/"] if options.plain else ["-k", f"deploy/overlays/{options.kind}"]))
    cluster = Cluster()
    # The name stays `dev`: without this the pods of the image before would stay, too.
    noted = {"spec": {"template": {"metadata": {"annotations": {"neocog/image": made}}}}}
    cluster.apps.patch_namespaced_deployment(STABLE, NAMESPACE, noted)
    try:
        cluster.wait_for_all()
        answer = cluster.ask("POST", "/predict", PICTURE.read_bytes())
        until(lambda: cpu(cluster) is not None, "the autoscaler to read the pods' CPU from metrics-server", 240)
    except ClusterError:
        show(NAMESPACE)
        raise
    print(f"cluster: {PICTURE} is read as {answer['digit']} ({answer['confidence']:.1%}) by {answer['model_version']}")
    print("cluster: the autoscaler reads the pods' CPU")


def cpu(cluster: Cluster) -> int | None:
    """The pods' CPU in percent of their request, as the autoscaler last read it; None while it has no figure."""
    status = cluster.scaling.read_namespaced_horizontal_pod_autoscaler(STABLE, NAMESPACE).status
    metrics = (status and status.current_metrics) or []
    return next((metric.resource.current.average_utilization for metric in metrics if metric.resource), None)


def need(*tools: str) -> None:
    """Raises `ClusterError` with where to get what is missing."""
    for tool in tools:
        if shutil.which(tool) is None:
            raise ClusterError(f"{tool} is missing: {INSTALL[tool]}")


def kind() -> None:
    known = subprocess.run(["kind", "get", "clusters"], stdout=subprocess.PIPE, text=True, check=False)
    if known.returncode:
        raise ClusterError("kind get clusters failed")
    if "neocog" in known.stdout.split():
        _run("kind", "export", "kubeconfig", "--name", "neocog")
    else:
        for left in reversed(range(TRIES)):
            made = subprocess.run(
                ["kind", "create", "cluster", "--config", "deploy/kind/cluster.yaml", "--wait", "120s"], check=False
            )
            if made.returncode == 0:
                break
            subprocess.run(["kind", "delete", "cluster", "--name", "neocog"], check=False)
            if not left:
                raise ClusterError(f"kind could not create a cluster in {TRIES} tries")
            time.sleep(5)
    kubectl("apply", "-k", "deploy/kind/metrics-server")
    load(IMAGE)


def load(image: str) -> None:
    """Gives a cluster that kind or minikube made an image of this machine; any other cluster pulls its own."""
    context = current_context()
    if not is_local(context):
        return
    if context.startswith("kind-"):
        _run("kind", "load", "docker-image", image, "--name", context.removeprefix("kind-"))
    else:
        _run("minikube", "image", "load", image, "--profile", context, "--overwrite")


def _image_id(client: str) -> str:
    command = [client, "image", "inspect", "--format", "{{.Id}}", IMAGE]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        raise ClusterError(f"there is no image {IMAGE}; `make image` builds it")
    return found.stdout.strip()


def minikube() -> None:
    _run("minikube", "start", "--profile", "neocog", "--nodes", "2", "--addons", "metrics-server", "--wait", "all")
    load(IMAGE)


def _run(*command: str) -> None:
    if subprocess.run(command, check=False).returncode:
        raise ClusterError(f"{' '.join(command[:3])} failed")


if __name__ == "__main__":
    main()
