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
FAILED: Final = "neocog/failed"  # on the ReplicaSet of a release that never got ready
TRACK: Final = "neocog/track"


def deploy(cluster: Cluster, image: str) -> str:
    """Exits non-zero where the image never gets ready; what ran before runs on."""
    before = _image(cluster.deployment())
    _set_image(cluster, image)
    try:
        cluster.wait_for_rollout()
    except RuntimeError as error:
        failed = max(_revisions(cluster), key=_number)
        marked = {"metadata": {"annotations": {FAILED: "true"}}}
        cluster.apps.patch_namespaced_replica_set(failed.metadata.name, NAMESPACE, marked)
        rollback(cluster)
        sys.exit(f"release: {error}; {_image(cluster.deployment())} serves on")
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
    """To the pods of the revision before, but for those that never got ready (`revisionHistoryLimit` keeps five)."""
    now = int(cluster.deployment().metadata.annotations[REVISION])
    before = [
        found
        for found in _revisions(cluster)
        if _number(found) < now and FAILED not in (found.metadata.annotations or {})
    ]
    if not before:
        sys.exit("release: there is nothing to go back to: no earlier revision was ever ready")
    last = max(before, key=_number)
    template = cluster.plain(last.spec.template)
    template["metadata"]["labels"].pop("pod-template-hash", None)
    # This alone, and not the Deployment as it was read: the autoscaler and the controller write to it meanwhile.
    patch = [{"op": "replace", "path": "/spec/template", "value": template}]
    cluster.apps.patch_namespaced_deployment(STABLE, NAMESPACE, patch)
    try:
        cluster.wait_for_rollout(patient=True)
    except RuntimeError as error:
        sys.exit(f"release: {error}")
    return f"back to revision {_number(last)}: {_image(cluster.deployment())}"


def _revisions(cluster: Cluster) -> list[Any]:
    """The stable Deployment's ReplicaSets."""
    uid = cluster.deployment().metadata.uid
    found = cluster.apps.list_namespaced_replica_set(NAMESPACE).items
    return [one for one in found if any(owner.uid == uid for owner in one.metadata.owner_references or [])]


def _number(replica_set: Any) -> int:
    return int(replica_set.metadata.annotations[REVISION])


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
