"""`make drill`: everything that ought to cost no request, done to a cluster under load. Exits with 1 if one was lost.

python -m deploy.cluster.drill [--rate 60] [--context NAME]

A load generator runs in the cluster, in a namespace of its own, and asks through the Service, on new connections and on
kept-alive ones. Meanwhile: a rolling update, a pod deleted, a node drained (where there are two), a release that never
gets ready and its rollback, a canary that comes and goes.

Whatever ends the drill (an error, Ctrl-C, SIGTERM), it takes back what it changed: the namespace is deleted, the node
takes pods again, the bad release is marked as failed and left, the canary is deleted.
"""

import argparse
import base64
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from kubernetes import client, stream
from kubernetes.client.exceptions import ApiException
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from deploy.cluster import release
from deploy.cluster.api import (
    CANARY,
    NAMESPACE,
    PICTURE,
    STABLE,
    Cluster,
    ClusterError,
    current_context,
    is_local,
    one_line,
    told,
    until,
)

PLACE: Final = "neocog-drill"
LABELS: Final = {"app.kubernetes.io/name": "drill", "app.kubernetes.io/part-of": "neocog"}
BEFORE, AFTER = 5, 15  # seconds of load around each deed; afterwards, so that old pods are gone
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
GONE: Final = 120  # seconds that a pod or the namespace may take to be gone; a pod's grace period is 35

Deed = Callable[[Cluster], object]


@one_line("drill")
def main() -> None:
    parser = argparse.ArgumentParser(prog="drill")
    parser.add_argument("--rate", type=float, default=60, help="requests a second")
    parser.add_argument(
        "--context", default="", help="kubectl's current context; needed unless kind or minikube made it"
    )
    options = parser.parse_args()
    confirm(options.context)
    for number in SIGNALS:
        signal.signal(number, _stop)
    tqdm.monitor_interval = 0  # no thread of its own: it would take the signals that `undisturbed` holds back
    drill(Cluster(), options.rate)


def confirm(context: str) -> None:
    """Raises `ClusterError`, before the cluster is asked anything, unless `context` says that this cluster is meant."""
    here = current_context()
    if context and context != here:
        raise ClusterError(f"the current context is {here}, not {context}; `kubectl config use-context {context}`")
    if not context and not is_local(here):
        raise ClusterError(
            f"this deletes pods and drains a node of {here}; if that is meant: `make drill CONTEXT={here}`"
        )


def _stop(number: int, _: object) -> NoReturn:
    """Ends the drill by an exception, so every `finally` runs. A second signal stops none of them: CI sends two."""
    for each in SIGNALS:
        signal.signal(each, lambda *_: None)
    print(f"drill: {signal.Signals(number).name}; taking back what was changed", file=sys.stderr)
    sys.exit(128 + number)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Holds signals back, so that what is being taken back is taken back completely."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def drill(cluster: Cluster, rate: float) -> None:
    """Prints a table, and exits with 1 where a request was lost."""
    if cluster.exists(CANARY):
        raise ClusterError(
            f"{CANARY} is there, and the drill would replace it: `make canary-down` or `make canary-release` first"
        )
    cluster.wait_for_all()
    image = cluster.deployment().spec.template.spec.containers[0].image
    deeds: dict[str, Deed] = {
        "nothing": lambda _: time.sleep(10),
        "rolling update": rolling_update,
        "a pod deleted": delete_a_pod,
        "a node drained": drain,
        "a bad release, and back": bad_release,
        "a canary, and away": lambda c: canary(c, image),
    }
    if not drainable(cluster):
        del deeds["a node drained"]
        print("drill: no node is drained: there is no second one to take its pods", file=sys.stderr)
    rows, lost = ["| | requests | lost | slowest |", "|---|---:|---:|---:|"], 0
    with place(cluster):
        for name, deed in tqdm(deeds.items(), "drill", disable=not sys.stderr.isatty()):
            said = under_load(cluster, image, rate, deed)
            failed = {what: n for what, n in said["counts"].items() if not what.endswith(" ok")}
            total = sum(said["counts"].values())
            if not total:
                raise ClusterError(f"the load generator sent nothing during: {name}")
            lost += sum(failed.values())
            why = f" ({', '.join(f'{n} {what}' for what, n in failed.items())})" if failed else ""
            rows.append(f"| {name} | {total:,} | {sum(failed.values())}{why} | {said['slowest']:.2f} s |")
        print("\n".join(rows))
    print(f"drill: {lost} requests were lost")
    sys.exit(lost > 0)


def rolling_update(cluster: Cluster) -> None:
    """Every pod replaced, as by a new image."""
    noted = {"spec": {"template": {"metadata": {"annotations": {"neocog/drilled": str(time.time())}}}}}
    cluster.apps.patch_namespaced_deployment(STABLE, NAMESPACE, noted)
    cluster.wait_for_rollout()


def delete_a_pod(cluster: Cluster) -> None:
    pod = cluster.pods()[0].metadata
    cluster.core.delete_namespaced_pod(pod.name, NAMESPACE)
    _wait_until_gone(cluster, {pod.uid}, pod.name)
    cluster.wait_for_rollout()


def drainable(cluster: Cluster) -> str:
    """A node with pods of the service, where another one can take them; or nothing."""
    takes_pods = {
        n.metadata.name for n in cluster.core.list_node().items if not n.spec.unschedulable and not n.spec.taints
    }
    nodes = sorted({pod.spec.node_name for pod in cluster.pods()} & takes_pods)
    return nodes[0] if nodes and len(takes_pods) > 1 else ""


def drain(cluster: Cluster) -> None:
    """Every pod of the service leaves one node, by eviction, as `kubectl drain` does; then the node takes pods again.

    An evicted pod stays on its node until it has drained. So the node is freed only when the pods are deleted, or when
    that takes too long: then it is freed all the same, and the drill fails.
    """
    if not (node := drainable(cluster)):
        raise ClusterError("no node can be drained: there is no second one to take its pods")
    try:
        cluster.core.patch_node(node, {"spec": {"unschedulable": True}})
        leaving = [pod.metadata for pod in cluster.pods(terminating=True) if pod.spec.node_name == node]
        for pod in leaving:
            until(partial(_evict, cluster, pod.name), f"{pod.name} to be evicted", 180)
        _wait_until_gone(cluster, {pod.uid for pod in leaving}, f"the pods on {node}")
        cluster.wait_for_rollout()
    finally:
        with undisturbed():
            cluster.core.patch_node(node, {"spec": {"unschedulable": None}})


def _evict(cluster: Cluster, name: str) -> bool:
    """False while the disruption budget forbids it."""
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=name, namespace=NAMESPACE))
    try:
        cluster.core.create_namespaced_pod_eviction(name, NAMESPACE, eviction)
    except ApiException as error:
        if error.status == 429:
            return False
        if error.status != 404:  # it has gone meanwhile
            raise
    return True


def _wait_until_gone(cluster: Cluster, uids: set[str], what: str) -> None:
    """Until the pods are deleted: a pod that is only terminating still runs."""
    there = lambda: {pod.metadata.uid for pod in cluster.core.list_namespaced_pod(NAMESPACE).items}  # noqa: E731
    until(lambda: not uids & there(), f"{what} to be gone", GONE)


def bad_release(cluster: Cluster) -> None:
    """Pods that never get ready: their bundle isn't there. The old pods must stay. `rollback` marks it as failed."""
    before = {pod.metadata.uid for pod in cluster.pods()}
    container = cluster.deployment().spec.template.spec.containers[0].name
    wrong = [{"name": container, "env": [{"name": "NEOCOG_BUNDLE", "value": "/nowhere"}]}]
    good = release.current(cluster).metadata.uid
    try:
        spec = {"template": {"spec": {"containers": wrong}}}
        cluster.apps.patch_namespaced_deployment(STABLE, NAMESPACE, {"spec": spec})
        time.sleep(20)
        left = {pod.metadata.uid for pod in cluster.pods() if _is_ready(pod)}
        if not before <= left:
            raise ClusterError(f"a release that never got ready took {len(before - left)} of {len(before)} old pods")
    finally:
        with undisturbed():
            if release.current(cluster).metadata.uid != good:  # the change arrived
                release.rollback(cluster)


def canary(cluster: Cluster, image: str) -> None:
    try:
        tqdm.write(f"drill: {release.canary(cluster, image, 0.25)}", file=sys.stderr)
        time.sleep(10)
    finally:
        with undisturbed():
            if cluster.exists(CANARY):
                release.remove(cluster)


def _is_ready(pod: Any) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])


@contextmanager
def place(cluster: Cluster) -> Iterator[None]:
    """The drill's namespace, with the load generator's source and picture. It is deleted however the drill ends."""
    restricted = {**LABELS, "pod-security.kubernetes.io/enforce": "restricted"}
    files = client.V1ConfigMap(
        metadata=client.V1ObjectMeta(name="load"),
        data={"load.py": (Path(__file__).parent / "load.py").read_text()},
        binary_data={PICTURE.name: base64.b64encode(PICTURE.read_bytes()).decode()},
    )
    ours = True
    try:
        try:
            cluster.core.create_namespace(
                client.V1Namespace(metadata=client.V1ObjectMeta(name=PLACE, labels=restricted))
            )
        except ApiException as error:
            if error.status != 409:
                raise
            ours = False
            said = f"the namespace {PLACE} is there: another drill runs, or `kubectl delete namespace {PLACE}`"
            raise ClusterError(said) from None
        cluster.core.create_namespaced_config_map(PLACE, files)
        yield
    finally:
        with undisturbed():
            removed = not ours or _removed(cluster)
    if not removed:
        sys.exit(1)


def _removed(cluster: Cluster) -> bool:
    """Whether the namespace is being deleted. Prints what goes wrong, and raises nothing: it may hide another error."""
    try:
        cluster.core.delete_namespace(PLACE)
    except (ApiException, HTTPError) as error:
        if getattr(error, "status", None) == 404:
            return True
        said = f"the namespace {PLACE} can't be deleted ({told(error)}); later: `kubectl delete namespace {PLACE}`"
        print(f"drill: {said}", file=sys.stderr)
        return False
    try:
        listed = partial(cluster.core.list_namespace, field_selector=f"metadata.name={PLACE}")
        until(lambda: not listed().items, f"the namespace {PLACE} to be gone", GONE)
    except (ClusterError, ApiException, HTTPError) as error:
        print(f"drill: {told(error)}; it is still terminating", file=sys.stderr)
    return True


def under_load(cluster: Cluster, image: str, rate: float, deed: Deed) -> dict[str, Any]:
    """What the load generator counted while `deed` was done."""
    pod = cluster.core.create_namespaced_pod(PLACE, _generator(image, rate)).metadata.name
    phase = lambda: cluster.core.read_namespaced_pod(pod, PLACE).status.phase  # noqa: E731
    until(lambda: phase() == "Running", "the load generator to run", 120)
    time.sleep(BEFORE)
    deed(cluster)
    time.sleep(AFTER)
    # Its own process is ended, since deleting the pod would take the log along.
    end = ["/usr/bin/python3", "-c", "import os, signal; os.kill(1, signal.SIGTERM)"]
    try:
        stream.stream(cluster.core.connect_get_namespaced_pod_exec, pod, PLACE, command=end, stdout=True, stderr=True)
    except ApiException as error:
        raise ClusterError(f"the load generator can't be told to end, by exec in {pod}: {told(error)}") from None
    until(lambda: phase() in ("Succeeded", "Failed"), "the load generator to end", 60)
    return counted(cluster, pod)


def counted(cluster: Cluster, pod: str) -> dict[str, Any]:
    """What the load generator in `pod` printed last."""
    # Unread by the package, which takes a line of JSON for an object and gives its text in Python's spelling.
    log = cluster.core.read_namespaced_pod_log(pod, PLACE, _preload_content=False).data.decode()
    lines = log.strip().splitlines() or [""]
    try:
        said: dict[str, Any] = json.loads(lines[-1])
    except ValueError:
        raise ClusterError(f"the load generator in {pod} counted nothing; its last line: {lines[-1]!r}") from None
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
