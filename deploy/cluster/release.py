"""Releases in the cluster: `make deploy`, `make canary`, `make canary-release`, `make canary-down`, `make rollback`.

python -m deploy.cluster.release deploy IMAGE        roll it out; back again, by itself, if it never gets ready
python -m deploy.cluster.release canary IMAGE [--share 0.2]    let it answer about that share of the connections
python -m deploy.cluster.release release-canary      the canary's image for all, and the canary deleted
python -m deploy.cluster.release remove              the canary deleted
python -m deploy.cluster.release rollback            leave the current revision for the one before, for good
python -m deploy.cluster.release status

A rollback marks the revision that it leaves as failed, whoever calls it: a person, `deploy` when a rollout fails, CI
when `make verify` fails, the drill. No later rollback returns to a marked revision, so a second rollback goes one
further back. Without the mark, it would return to the revision that the first one left. Deploying the same image again
removes the mark.
"""

import argparse
import copy
from typing import Any, Final

from kubernetes.client import V1Deployment, V1ObjectMeta

from deploy.cluster.api import CANARY, NAMESPACE, STABLE, Cluster, ClusterError, one_line, until

REVISION: Final = "deployment.kubernetes.io/revision"
FAILED: Final = "neocog/failed"  # on the ReplicaSet of a revision that a rollback left
TRACK: Final = "neocog/track"


def deploy(cluster: Cluster, image: str) -> str:
    """Raises `ClusterError` where the image never gets ready; the pods of before have served on, and stay."""
    before = _image(cluster.deployment())
    _set_image(cluster, image)
    try:
        cluster.wait_for_rollout()
    except ClusterError as error:
        try:
            rollback(cluster)
        except ClusterError as second:
            raise ClusterError(f"{error}; {second}") from None
        raise ClusterError(f"{error}; {_image(cluster.deployment())} serves on") from None
    _mark(cluster, current(cluster), None)
    return f"{image} serves, instead of {before}"


def canary(cluster: Cluster, image: str, share: float) -> str:
    """A second Deployment behind the same Service: the stable one's pods with another image.

    The share of the connections is the canary's share of the ready pods, so few pods make coarse steps. The autoscaler
    adds stable pods only: under more load the canary's share falls.
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
    except ClusterError as error:
        remove(cluster)
        raise ClusterError(f"{error}; the canary is deleted again, the stable pods serve on") from None
    return f"{image} has {count} of {count + pods} pods: about {count / (count + pods):.0%} of the connections"


def release_canary(cluster: Cluster) -> str:
    said = deploy(cluster, _image(cluster.deployment(CANARY)))
    remove(cluster)
    return said


def remove(cluster: Cluster) -> str:
    cluster.deployment(CANARY)
    cluster.apps.delete_namespaced_deployment(CANARY, NAMESPACE)
    return "the canary is deleted"


def rollback(cluster: Cluster) -> str:
    """To the newest earlier revision that is not marked as failed (`revisionHistoryLimit` keeps five); see above."""
    leaving = current(cluster)
    before = [
        found
        for found in _revisions(cluster)
        if _number(found) < _number(leaving) and FAILED not in (found.metadata.annotations or {})
    ]
    if not before:
        raise ClusterError("there is nothing to go back to: no earlier revision is left that is not marked as failed")
    last = max(before, key=_number)
    _mark(cluster, leaving, "true")  # first: if this process ends here, the mark is there
    template = cluster.plain(last.spec.template)
    template["metadata"]["labels"].pop("pod-template-hash", None)
    # This alone, and not the Deployment as it was read: the autoscaler and the controller write to it meanwhile.
    patch = [{"op": "replace", "path": "/spec/template", "value": template}]
    cluster.apps.patch_namespaced_deployment(STABLE, NAMESPACE, patch)
    cluster.wait_for_rollout(patient=True)
    return f"back to revision {_number(last)}: {_image(cluster.deployment())}"


def current(cluster: Cluster) -> Any:
    """The ReplicaSet of what the Deployment asks for now. After a change, its controller needs a moment to make one."""
    until(cluster.observed, "the Deployment's controller to see the last change", 60)
    number = int(cluster.deployment().metadata.annotations[REVISION])
    for found in _revisions(cluster):
        if _number(found) == number:
            return found
    raise ClusterError(f"revision {number} of {STABLE} has no ReplicaSet; did something else change it meanwhile?")


def _mark(cluster: Cluster, replica_set: Any, failed: str | None) -> None:
    """None removes the mark."""
    marked = {"metadata": {"annotations": {FAILED: failed}}}
    cluster.apps.patch_namespaced_replica_set(replica_set.metadata.name, NAMESPACE, marked)


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


@one_line("release")
def main() -> None:
    parser = argparse.ArgumentParser(prog="release")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("deploy", "canary"):
        commands.add_parser(name).add_argument("image")
    commands.choices["canary"].add_argument("--share", type=_share, default=0.2)
    for name in ("release-canary", "remove", "rollback", "status"):
        commands.add_parser(name)
    options = vars(parser.parse_args())
    said = globals()[options.pop("command").replace("-", "_")](Cluster(), **options)
    print(f"release: {said}")


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError("a share is between 0 and 1")
    return share


if __name__ == "__main__":
    main()
