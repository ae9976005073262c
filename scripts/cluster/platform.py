"""`make platform-up`: MLflow with PostgreSQL in the cluster. The password is drawn the first time, and only there."""

import secrets
import sys
from typing import Final

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from scripts.cluster.api import Cluster, kubectl, until
from scripts.cluster.up import load, need

PLACE: Final = "neocog-platform"
SECRET: Final = "postgres"  # noqa: S105 - its name


def main() -> None:
    need("kubectl")
    cluster = Cluster()
    load("neocog-training:dev")
    kubectl("apply", "-f", "deploy/platform/00-namespace.yaml")
    made = client.V1Secret(
        metadata=client.V1ObjectMeta(name=SECRET), string_data={"password": secrets.token_urlsafe(24)}
    )
    try:
        cluster.core.create_namespaced_secret(PLACE, made)
    except ApiException as error:
        if error.status != 409:  # it is there already
            raise
    kubectl("apply", "-f", "deploy/platform/")
    try:
        until(lambda: _ready(cluster), "MLflow to be ready", 300)
    except RuntimeError as error:
        kubectl("get", "pods,events", "--namespace", PLACE)
        sys.exit(f"platform: {error}")
    print(f"platform: MLflow is ready; kubectl port-forward -n {PLACE} service/mlflow 5000")


def _ready(cluster: Cluster) -> bool:
    status = cluster.apps.read_namespaced_deployment("mlflow", PLACE).status
    return bool(status.ready_replicas)


if __name__ == "__main__":
    main()
