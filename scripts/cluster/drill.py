"""`make drill`: everything that ought to cost no request, done to a cluster under load. Exits with 1 if one was lost.

python -m scripts.cluster.drill [--rate 60]

A load generator runs in the cluster, in a namespace of its own, and asks through the Service, on new connections and on
kept-alive ones. Meanwhile: a rolling update, a pod deleted, a node drained, a release that never gets ready and its
rollback, a canary that comes and goes.
"""

import argparse
import base64
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from kubernetes import client, stream
from kubernetes.client.exceptions import ApiException
from tqdm import tqdm

from scripts.cluster import release
from scripts.cluster.api import NAMESPACE, PICTURE, STABLE, Cluster, until

PLACE: Final = "neocog-drill"
LABELS: Final = {"app.kubernetes.io/name": "drill", "app.kubernetes.io/part-of": "neocog"}
BEFORE, AFTER = 5, 15  # seconds of load around each deed; afterwards, so that old pods are gone


def main() -> None:
    parser = argparse.ArgumentParser(prog="drill")
    parser.add_argument("--rate", type=float, default=60, help="requests a second")
    parser.add_argument(
        "--context", default="", help="kubectl's, to confirm that it is the one, unless it is kind's or minikube's"
    )
    options = parser.parse_args()
    cluster = Cluster()
    if not cluster.context.startswith(("kind-", "neocog")) and options.context != cluster.context:
        where = cluster.context
        sys.exit(f"drill: it deletes pods and drains nodes of {where}; if that is meant: --context {where}")
    try:
        drill(cluster, options.rate)
    except RuntimeError as error:
        sys.exit(f"drill: {error}")


def drill(cluster: Cluster, rate: float) -> None:
    """Prints a table, and exits with 1 where a request was lost."""
    cluster.wait_for_all()
    image = cluster.deployment().spec.template.spec.containers[0].image
    deeds: dict[str, Callable[[Cluster], None]] = {
        "nothing": lambda _: time.sleep(10),
        "rolling update": rolling_update,
        "a pod deleted": delete_a_pod,
        "a node drained": drain_a_node,
        "a bad release, and back": bad_release,
        "a canary, and away": lambda c: canary(c, image),
    }
    rows, lost = ["| | requests | lost | slowest |", "|---|---:|---:|---:|"], 0
    _prepare(cluster)
    try:
        for name, deed in tqdm(deeds.items(), "drill", disable=not sys.stderr.isatty()):
            said = under_load(cluster, image, rate, deed)
            failed = {what: n for what, n in said["counts"].items() if not what.endswith(" ok")}
            total = sum(said["counts"].values())
            lost += sum(failed.values())
            why = f" ({', '.join(f'{n} {what}' for what, n in failed.items())})" if failed else ""
            rows.append(f"| {name} | {total:,} | {sum(failed.values())}{why} | {said['slowest']:.2f} s |")
            if not total:
                sys.exit(f"drill: the load generator sent nothing during: {name}")
    finally:
        cluster.core.delete_namespace(PLACE)
    print("\n".join(rows))
    print(f"drill: {lost} requests were lost")
    sys.exit(lost > 0)


def rolling_update(cluster: Cluster) -> None:
    """Every pod replaced, as by a new image."""
    noted = {"spec": {"template": {"metadata": {"annotations": {"neocog/drilled": str(time.time())}}}}}
    cluster.apps.patch_namespaced_deployment(STABLE, NAMESPACE, noted)
    cluster.wait_for_rollout()


def delete_a_pod(cluster: Cluster) -> None:
    gone = cluster.pods()[0].metadata.name
    cluster.core.delete_namespaced_pod(gone, NAMESPACE)
    until(lambda: gone not in _names(cluster), f"{gone} to go", 120)
    cluster.wait_for_rollout()


def drain_a_node(cluster: Cluster) -> None:
    """Every pod of the service leaves one node, by eviction, as `kubectl drain` does; then the node is back."""
    node = cluster.pods()[0].spec.node_name
    schedulable = [n for n in cluster.core.list_node().items if not n.spec.unschedulable and not n.spec.taints]
    if len(schedulable) < 2:
        tqdm.write("drill: one node alone can't be drained; passed over")
        return
    cluster.core.patch_node(node, {"spec": {"unschedulable": True}})
    try:
        for pod in cluster.pods():
            if pod.spec.node_name == node:
                name = pod.metadata.name
                until(partial(_evict, cluster, name), f"{name} to be evicted", 180)
        cluster.wait_for_rollout()
    finally:
        cluster.core.patch_node(node, {"spec": {"unschedulable": None}})


def _evict(cluster: Cluster, name: str) -> bool:
    """False while the disruption budget forbids it."""
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=NAMESPACE))
    try:
        cluster.core.create_namespaced_pod_eviction(name, NAMESPACE, eviction)
    except ApiException as error:
        if error.status == 429:
            return False
        raise
    return True


def bad_release(cluster: Cluster) -> None:
    """Pods that never get ready: their bundle isn't there. The old ones must be left; then `rollback`."""
    before = {pod.metadata.uid for pod in cluster.pods()}
    container = cluster.deployment().spec.template.spec.containers[0].name
    wrong = [{"name": container, "env": [{"name": "NEOCOG_BUNDLE", "value": "/nowhere"}]}]
    cluster.apps.patch_namespaced_deployment(STABLE, NAMESPACE, {"spec": {"template": {"spec": {"containers": wrong}}}})
    time.sleep(20)
    left = {pod.metadata.uid for pod in cluster.pods() if _is_ready(pod)}
    if not before <= left:
        sys.exit(f"drill: a release that never got ready took {len(before - left)} of {len(before)} old pods")
    release.rollback(cluster)


def canary(cluster: Cluster, image: str) -> None:
    tqdm.write(release.canary(cluster, image, 0.25))
    time.sleep(10)
    release.remove(cluster)


def _is_ready(pod: Any) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])


def _names(cluster: Cluster) -> set[str]:
    return {pod.metadata.name for pod in cluster.core.list_namespaced_pod(NAMESPACE).items}


def _prepare(cluster: Cluster) -> None:
    """A namespace with the load generator's source and picture in it."""
    restricted = {**LABELS, "pod-security.kubernetes.io/enforce": "restricted"}
    try:
        cluster.core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=PLACE, labels=restricted)))
    except ApiException as error:
        if error.status == 409:
            sys.exit(f"drill: the namespace {PLACE} is there: another drill runs, or `kubectl delete ns {PLACE}`")
        raise
    files = client.V1ConfigMap(
        metadata=client.V1ObjectMeta(name="load"),
        data={"load.py": (Path(__file__).parent / "load.py").read_text()},
        binary_data={PICTURE.name: base64.b64encode(PICTURE.read_bytes()).decode()},
    )
    cluster.core.create_namespaced_config_map(PLACE, files)


def under_load(cluster: Cluster, image: str, rate: float, deed: Callable[[Cluster], None]) -> dict[str, Any]:
    """What the load generator counted while `deed` was done."""
    pod = cluster.core.create_namespaced_pod(PLACE, _generator(image, rate)).metadata.name
    phase = lambda: cluster.core.read_namespaced_pod(pod, PLACE).status.phase  # noqa: E731
    until(lambda: phase() == "Running", "the load generator to run", 120)
    time.sleep(BEFORE)
    deed(cluster)
    time.sleep(AFTER)
    # Its own process is ended, since deleting the pod would take the log along.
    end = ["/usr/bin/python3", "-c", "import os, signal; os.kill(1, signal.SIGTERM)"]
    stream.stream(cluster.core.connect_get_namespaced_pod_exec, pod, PLACE, command=end, stdout=True, stderr=True)
    until(lambda: phase() in ("Succeeded", "Failed"), "the load generator to end", 60)
    return counted(cluster, pod)


def counted(cluster: Cluster, pod: str) -> dict[str, Any]:
    """What the load generator in `pod` printed last."""
    # Unread by the package, which takes a line of JSON for an object and gives its text in Python's spelling.
    log = cluster.core.read_namespaced_pod_log(pod, PLACE, _preload_content=False).data.decode()
    said: dict[str, Any] = json.loads(log.strip().splitlines()[-1])
    return said


def _generator(image: str, rate: float) -> Any:
    env = {
        "URL": f"http://neocog.{NAMESPACE}",
        "RATE": str(rate),
        "SECONDS": "1800",
        "PICTURE": f"/load/{PICTURE.name}",
    }
    container = client.V1Container(
        name="load",
        image=image,
        image_pull_policy="IfNotPresent",
        command=["/usr/bin/python3", "/load/load.py"],
        env=[client.V1EnvVar(name=name, value=value) for name, value in env.items()],
        resources=client.V1ResourceRequirements(requests={"cpu": "100m", "memory": "64Mi"}, limits={"memory": "128Mi"}),
        security_context=client.V1SecurityContext(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=client.V1Capabilities(drop=["ALL"]),
        ),
        volume_mounts=[client.V1VolumeMount(name="load", mount_path="/load", read_only=True)],
    )
    return client.V1Pod(
        metadata=client.V1ObjectMeta(generate_name="load-", labels=LABELS),
        spec=client.V1PodSpec(
            restart_policy="Never",
            automount_service_account_token=False,
            enable_service_links=False,
            termination_grace_period_seconds=30,
            security_context=client.V1PodSecurityContext(
                run_as_non_root=True, run_as_user=65532, seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault")
            ),
            containers=[container],
            volumes=[client.V1Volume(name="load", config_map=client.V1ConfigMapVolumeSource(name="load"))],
        ),
    )


if __name__ == "__main__":
    main()
