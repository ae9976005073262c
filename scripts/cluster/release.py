"""What is released in the cluster, by one command each: `make deploy`, `make canary`, `make promote`, `make rollback`.

python -m scripts.cluster.release deploy IMAGE        roll it out; back again, by itself, if it never gets ready
python -m scripts.cluster.release canary IMAGE [--share 0.2]    let it answer about so many of the requests
python -m scripts.cluster.release promote             the canary's image for all, and the canary gone
python -m scripts.cluster.release remove              the canary gone
python -m scripts.cluster.release rollback            what ran before
python -m scripts.cluster.release status
"""

import argparse
import copy
import sys
from typing import Any, Final

from kubernetes.client import V1Deployment, V1ObjectMeta

from scripts.cluster.api import CANARY, NAMESPACE, STABLE, Cluster

REVISION: Final = "deployment.kubernetes.io/revision"
TRACK: Final = "neocog/track"


def deploy(cluster: Cluster, image: str) -> str:
    """Exits non-zero where the image never gets ready; what ran before runs on."""
    before = _image(cluster.deployment())
    _set_image(cluster, image)
    try:
        cluster.wait_for_rollout()
    except RuntimeError as error:
        rollback(cluster)
        sys.exit(f"release: {error}; {before} serves on")
    return f"{image} serves, instead of {before}"


def canary(cluster: Cluster, image: str, share: float) -> str:
    """A second Deployment behind the same Service: the stable one's pods with another image.

    The Service gives each ready pod the same share of the connections, so the share is that of the pods, and its steps
    are as coarse as pods are few. The autoscaler moves the stable number only: the share sinks as load grows.
    """
    stable = cluster.deployment()
    pods = stable.spec.replicas
    count = max(1, round(share / (1 - share) * pods))
    made = V1Deployment(api_version="apps/v1", kind="Deployment", spec=copy.deepcopy(stable.spec))
    labels = {**stable.metadata.labels, TRACK: "canary"}
    made.metadata = V1ObjectMeta(name=CANARY, namespace=NAMESPACE, labels=labels)
    made.spec.replicas = count
    made.spec.selector.match_labels[TRACK] = made.spec.template.metadata.labels[TRACK] = "canary"
    made.spec.template.spec.containers[0].image = image
    if cluster.exists(CANARY):
        cluster.apps.replace_namespaced_deployment(CANARY, NAMESPACE, made)
    else:
        cluster.apps.create_namespaced_deployment(NAMESPACE, made)
    try:
        cluster.wait_for_rollout(CANARY)
    except RuntimeError as error:
        remove(cluster)
        sys.exit(f"release: {error}; the canary is gone again, the stable pods serve on")
    return f"{image} answers {count / (count + pods):.0%} of the connections: {count} of {count + pods} pods"


def promote(cluster: Cluster) -> str:
    said = deploy(cluster, _image(cluster.deployment(CANARY)))
    remove(cluster)
    return said


def remove(cluster: Cluster) -> str:
    cluster.deployment(CANARY)
    cluster.apps.delete_namespaced_deployment(CANARY, NAMESPACE)
    return "the canary is gone"


def rollback(cluster: Cluster) -> str:
    """To the pods of the revision before; the ReplicaSets of older ones keep them (`revisionHistoryLimit`)."""
    stable = cluster.deployment()
    owned = [
        found
        for found in cluster.apps.list_namespaced_replica_set(NAMESPACE).items
        if any(owner.uid == stable.metadata.uid for owner in found.metadata.owner_references or [])
    ]
    now = int(stable.metadata.annotations[REVISION])
    before = [found for found in owned if int(found.metadata.annotations[REVISION]) < now]
    if not before:
        sys.exit("release: there is nothing to go back to: this is the first revision")
    last = max(before, key=lambda found: int(found.metadata.annotations[REVISION]))
    template = last.spec.template
    template.metadata.labels.pop("pod-template-hash", None)
    stable.spec.template = template
    stable.spec.replicas = cluster.deployment().spec.replicas  # the autoscaler's
    cluster.apps.replace_namespaced_deployment(STABLE, NAMESPACE, stable)
    try:
        cluster.wait_for_rollout()
    except RuntimeError as error:
        sys.exit(f"release: {error}")
    return f"back to revision {last.metadata.annotations[REVISION]}: {_image(cluster.deployment())}"


def status(cluster: Cluster) -> str:
    lines = []
    for name in (STABLE, CANARY):
        if cluster.exists(name):
            found = cluster.deployment(name)
            ready = f"{found.status.ready_replicas or 0} of {found.spec.replicas} pods ready"
            lines.append(f"{name:<14} {_image(found):<40} {ready}")
    return "\n".join(lines) or f"nothing is released in {NAMESPACE}"


def _image(deployment: Any) -> str:
    image: str = deployment.spec.template.spec.containers[0].image
    return image


def _set_image(cluster: Cluster, image: str) -> None:
    containers = [{"name": cluster.deployment().spec.template.spec.containers[0].name, "image": image}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    cluster.apps.patch_namespaced_deployment(STABLE, NAMESPACE, patch)


def main() -> None:
    parser = argparse.ArgumentParser(prog="release")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("deploy", "canary"):
        commands.add_parser(name).add_argument("image")
    commands.choices["canary"].add_argument("--share", type=_share, default=0.2)
    for name in ("promote", "remove", "rollback", "status"):
        commands.add_parser(name)
    options = vars(parser.parse_args())
    said = globals()[options.pop("command")](Cluster(), **options)
    print(f"release: {said}")


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError("a share is between 0 and 1")
    return share


if __name__ == "__main__":
    main()
