"""`make platform-up`: MLflow with PostgreSQL in the cluster. The password is drawn the first time, and only there."""

import secrets
from typing import Final

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from deploy.cluster.api import Cluster, ClusterError, kubectl, one_line, show, until
from deploy.cluster.up import load, need

PLACE: Final = "neocog-platform"
SECRET: Final = "postgres"  # noqa: S105 - its name


@one_line("platform")
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
    except ClusterError:
        show(PLACE)
        raise
    print(f"platform: MLflow is ready; kubectl port-forward -n {PLACE} service/mlflow 5000")


def _ready(cluster: Cluster) -> bool:
    status = cluster.apps.read_namespaced_deployment("mlflow", PLACE).status
    return bool(status.ready_replicas)


if __name__ == "__main__":
    main()
