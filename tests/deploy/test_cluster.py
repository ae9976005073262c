"""The scripts that speak with a cluster. There is none here: a small stand-in answers as its API server would."""

import asyncio
import base64
import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import pytest
import yaml

from deploy.cluster import drill, release
from deploy.cluster.api import Cluster, ClusterError, is_local, one_line
from tests.bundles import DIGITS, linear_model, make_bundle, png
from tests.conftest import REPOSITORY
from tests.deploy.api_server import ApiServer
from tests.waiting import until

pytestmark = pytest.mark.slow

# Runs a module as `python -m` does, but it sleeps at most 10 ms at a time: what it waits for here has no clock.
FAST = """
import runpy, sys, time
sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.01))
module, *sys.argv = sys.argv[1], *sys.argv[1:]
runpy.run_module(module, run_name="__main__")
"""
KUBELET = "error dialing backend: dial tcp 10.0.0.7:10250: connect: connection refused"


def write_kubeconfig(path, context, server):
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": context,
        "users": [{"name": "me", "user": {"token": "t"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "contexts": [{"name": context, "context": {"cluster": "c", "user": "me"}}],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(config))


@pytest.fixture
def kubeconfig(tmp_path, monkeypatch):
    """The file that this process and its children take for kubectl's."""
    path = tmp_path / "kubeconfig"
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    return path


@pytest.fixture
def api(kubeconfig):
    """The stand-in, the one that kubectl's context names."""
    server = ApiServer()
    write_kubeconfig(kubeconfig, "here", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.close()


@pytest.fixture
def cluster(api):
    """With k8s/ applied."""
    found = Cluster()
    stable = yaml.safe_load((REPOSITORY / "k8s" / "30-deployment.yaml").read_text())
    stable["spec"]["replicas"] = 4  # the autoscaler's
    found.apps.create_namespaced_deployment("neocog", stable)
    return found


def start(module, *arguments, folder=REPOSITORY):
    return subprocess.Popen(
        [sys.executable, "-c", FAST, module, *arguments], cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def run(module, *arguments, **options):
    """Its exit status, and what it wrote to stdout and stderr."""
    started = start(module, *arguments, **options)
    out, err = started.communicate(timeout=300)
    return started.returncode, out, err


def image(cluster, name="neocog"):
    return cluster.deployment(name).spec.template.spec.containers[0].image


def failed(api):
    """The images of the revisions that are marked as failed."""
    marked = [one for one in api.replica_sets if release.FAILED in one["metadata"]["annotations"]]
    return [one["spec"]["template"]["spec"]["containers"][0]["image"] for one in marked]


def test_a_release_rolls_out_and_back(cluster):
    assert release.deploy(cluster, "neocog:two") == "neocog:two serves, instead of neocog:dev"
    assert release.deploy(cluster, "neocog:three") == "neocog:three serves, instead of neocog:two"
    assert release.rollback(cluster).endswith("neocog:two")
    assert image(cluster) == "neocog:two"
    assert cluster.deployment().spec.replicas == 4
    assert "pod-template-hash" not in cluster.deployment().spec.template.metadata.labels


def test_no_rollback_returns_to_a_revision_that_one_has_left(cluster, api):
    """`make verify || make rollback`, twice."""
    for name in ("neocog:two", "neocog:three"):
        release.deploy(cluster, name)
    assert release.rollback(cluster).endswith("neocog:two")
    assert failed(api) == ["neocog:three"]
    release.deploy(cluster, "neocog:four")
    assert release.rollback(cluster).endswith("neocog:two")
    assert release.rollback(cluster).endswith("neocog:dev")
    assert failed(api) == ["neocog:two", "neocog:three", "neocog:four"]
    with pytest.raises(ClusterError, match="nothing to go back to: no earlier revision is left that is not marked"):
        release.rollback(cluster)
    assert "neocog:dev" not in failed(api)


def test_deploying_an_image_again_removes_its_mark(cluster, api):
    release.deploy(cluster, "neocog:two")
    release.rollback(cluster)
    release.deploy(cluster, "neocog:two")
    assert failed(api) == []
    release.deploy(cluster, "neocog:three")
    assert release.rollback(cluster).endswith("neocog:two")


def test_a_rollback_waits_until_the_controller_has_seen_what_it_leaves(cluster, api):
    release.deploy(cluster, "neocog:two")
    api.lag = 3
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "service", "image": "neocog:bad"}]}}}}
    cluster.apps.patch_namespaced_deployment("neocog", "neocog", patch)
    assert release.rollback(cluster).endswith("neocog:two")
    assert failed(api) == ["neocog:bad"]


def test_a_release_that_never_gets_ready_goes_back_by_itself(cluster):
    release.deploy(cluster, "neocog:two")
    with pytest.raises(ClusterError, match="neocog has not rolled out: too late; neocog:two serves on"):
        release.deploy(cluster, "neocog:bad")
    assert image(cluster) == "neocog:two"
    assert release.rollback(cluster).endswith("neocog:dev")  # not to the one that failed


def test_there_is_nothing_before_the_first(cluster):
    with pytest.raises(ClusterError, match="nothing to go back to"):
        release.rollback(cluster)


def test_a_first_release_that_fails_tells_both(cluster, api):
    api.deployments.clear()
    api.replica_sets.clear()
    bad = yaml.safe_load((REPOSITORY / "k8s" / "30-deployment.yaml").read_text())
    bad["spec"]["template"]["spec"]["containers"][0]["image"] = "neocog:bad"
    cluster.apps.create_namespaced_deployment("neocog", bad)
    with pytest.raises(ClusterError, match="neocog has not rolled out: too late; there is nothing to go back to"):
        release.deploy(cluster, "neocog:bad")


@pytest.mark.parametrize(("share", "pods", "said"), [(0.2, 1, "20%"), (0.05, 1, "20%"), (0.5, 4, "50%")])
def test_a_canary_gets_its_share_of_the_pods(cluster, share, pods, said):
    assert said in release.canary(cluster, "neocog:two", share)
    made = cluster.deployment("neocog-canary")
    assert made.spec.replicas == pods
    assert made.spec.selector.match_labels["neocog/track"] == "canary"
    service = yaml.safe_load((REPOSITORY / "k8s" / "40-service.yaml").read_text())["spec"]["selector"]
    assert service.items() <= made.spec.template.metadata.labels.items()
    assert image(cluster) == "neocog:dev"
    stable = cluster.deployment().spec
    assert stable.selector.match_labels["neocog/track"] == stable.template.metadata.labels["neocog/track"] == "stable"
    assert "neocog-canary" in release.status(cluster)
    release.remove(cluster)
    assert not cluster.exists("neocog-canary")


def test_a_canary_is_released_and_gone(cluster):
    release.canary(cluster, "neocog:two", 0.2)
    release.release_canary(cluster)
    assert image(cluster) == "neocog:two"
    assert not cluster.exists("neocog-canary")


def test_a_canary_that_never_gets_ready_is_gone_too(cluster):
    with pytest.raises(ClusterError, match="the canary is deleted again, the stable pods serve on"):
        release.canary(cluster, "neocog:bad", 0.2)
    assert not cluster.exists("neocog-canary")
    with pytest.raises(ClusterError, match="no Deployment neocog-canary in neocog"):
        release.release_canary(cluster)


def test_the_service_is_asked_through_the_api_server(cluster, api, serve):
    service = serve()
    api.service = service.port
    assert cluster.ask("GET", "/version")["name"] == "neocog"
    picture = (REPOSITORY / "samples" / "clean-3.png").read_bytes()
    answer = cluster.ask("POST", "/predict", picture)
    assert answer["digit"] in range(10)
    batch = {"images": [base64.b64encode(picture).decode()] * 2}
    said = cluster.ask("POST", "/predict/batch", batch)["predictions"]
    assert [one["digit"] for one in said] == [answer["digit"]] * 2


@pytest.fixture
def checkout(tmp_path):
    """A commit with a champion and one sample."""
    folder = tmp_path / "built"
    (folder / "samples").mkdir(parents=True)
    (folder / "samples" / "drawn-3.png").write_bytes(png(DIGITS[3]))
    make_bundle(folder / "out" / "champion")
    git = ["git", "-C", folder, "-c", "user.name=me", "-c", "user.email=me@here"]
    for command in (["init", "--quiet"], ["commit", "--quiet", "--allow-empty", "--message", "one"]):
        subprocess.run([*git, *command], check=True)
    return folder


def test_verify_passes_when_the_cluster_runs_what_was_built(cluster, api, serve, checkout):
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True).stdout.strip()
    api.service = serve(bundle=checkout / "out" / "champion", revision=head).port
    code, out, err = run("deploy.cluster.verify", folder=checkout)
    assert (code, err) == (0, "")
    assert out.endswith(f" of {head[:12]} runs, and read 1 pictures as it should\n")


def test_verify_tells_everything_that_is_not_what_was_built(cluster, api, serve, checkout, tmp_path):
    make_bundle(tmp_path / "other", linear_model(sharpness=10.0))
    api.service = serve(bundle=tmp_path / "other", revision="0" * 40).port
    (checkout / "samples" / "drawn-3.png").rename(checkout / "samples" / "drawn-4.png")
    code, out, err = run("deploy.cluster.verify", folder=checkout)
    assert (code, out) == (1, "")
    said = [line.removeprefix("verify: ").partition(" in the cluster is ")[0] for line in err.splitlines()]
    assert said == ["the bundle", "the model's SHA-256", "the revision", "samples/drawn-4.png is read as 3"]


def test_what_the_load_generator_counted_is_read_from_its_log(cluster):
    assert drill.counted(cluster, "load-1") == {"counts": {"new ok": 2}, "slowest": 0.1}


def test_an_answer_that_is_an_error_is_a_line(cluster, api, serve):
    api.service = serve().port
    with pytest.raises(ClusterError, match=r"POST /predict is answered with 415: .*not-an-image"):
        cluster.ask("POST", "/predict", b"no picture")


@pytest.mark.parametrize(("refused", "module", "arguments", "said"), [
    ({"GET .*/deployments": (403, 'deployments.apps is forbidden: "me" may not')}, "release", ["status"],
     'release: the API server answers 403: deployments.apps is forbidden: "me" may not'),
    ({"PATCH": (500, "etcdserver: request timed out")}, "release", ["deploy", "neocog:two"],
     "release: the API server answers 500: etcdserver: request timed out"),
    ({"GET .*/replicasets": None}, "release", ["rollback"],
     "release: the API server does not answer: ('Connection aborted.', RemoteDisconnected("),
    ({"GET .*/proxy/": (503, "no endpoints available")}, "verify", [],
     "verify: GET /version is answered with 503: "),
    ({"POST .*/secrets": (403, "secrets is forbidden")}, "platform", [],
     "platform: the API server answers 403: secrets is forbidden"),
    ({"PATCH": (409, "the object has been modified")}, "up", ["kind"],
     "cluster: the API server answers 409: the object has been modified"),
    ({"GET .*/nodes": (403, "nodes is forbidden")}, "drill", ["--context", "here"],
     "drill: the API server answers 403: nodes is forbidden"),
    ({"POST .*/neocog-drill/configmaps": (403, "configmaps is forbidden")}, "drill", ["--context", "here"],
     "drill: the API server answers 403: configmaps is forbidden"),
    ({"GET .*/exec": (500, KUBELET)}, "drill", ["--context", "here"],
     f"drill: the load generator can't be told to end, by exec in load-9: the API server answers 500: {KUBELET}"),
    ({"GET .*/exec": None}, "drill", ["--context", "here"],
     "drill: the load generator can't be told to end, by exec in load-9: the connection to the API server failed: "),
])  # fmt: skip
def test_whatever_the_api_server_refuses_is_one_line(cluster, api, tools, folder, refused, module, arguments, said):
    release.deploy(cluster, "neocog:one")  # so that there is something to go back to
    api.refused = refused
    code, out, err = run(f"deploy.cluster.{module}", *arguments, folder=folder)
    assert (code, out) == (1, ""), err
    assert err.startswith(said)
    assert err.count("\n") == 1
    assert "neocog-drill" not in api.namespaces


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Commands that do nothing, successfully: kubectl, kind (which knows the cluster `neocog`), docker."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for tool in ("kubectl", "kind", "docker"):
        (folder / tool).write_text("#!/bin/sh\n[ \"$*\" != 'get clusters' ] || echo neocog\n")
        (folder / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER", "docker")


@pytest.fixture
def folder(tmp_path):
    """What the scripts read in the working directory."""
    (tmp_path / "checkout").mkdir()
    for name in ("samples", "deploy"):
        (tmp_path / "checkout" / name).symlink_to(REPOSITORY / name)
    make_bundle(tmp_path / "checkout" / "out" / "champion")
    return tmp_path / "checkout"


def test_an_api_server_that_is_not_there_is_one_line(kubeconfig):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
    write_kubeconfig(kubeconfig, "here", address)
    code, out, err = run("deploy.cluster.release", "status")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("release: here can't be reached: the API server does not answer: ")
    assert "Connection refused" in err


def test_a_failing_tls_handshake_is_one_line(api, kubeconfig):
    write_kubeconfig(kubeconfig, "here", f"https://127.0.0.1:{api.server_port}")
    code, out, err = run("deploy.cluster.release", "status")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("release: here can't be reached: ")


def test_where_there_is_no_cluster_it_is_one_line(kubeconfig):
    code, _, err = run("deploy.cluster.release", "status")
    said = "release: kubectl has no current context; `make kind-up` or `make minikube-up` creates a cluster\n"
    assert (code, err) == (1, said)


@pytest.mark.parametrize(("context", "local"), [
    ("kind-neocog", True), ("kind-other", True), ("neocog", True),
    ("neocog-production", False), ("neocogs", False), ("kind", False), ("here", False),
])  # fmt: skip
def test_a_context_of_kind_or_of_our_minikube_is_local(context, local):
    assert is_local(context) is local


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "drill: this deletes pods and drains a node of here; if that is meant: `make drill CONTEXT=here`\n"),
    (["--context", "there"], "drill: the current context is here, not there; `kubectl config use-context there`\n"),
])  # fmt: skip
def test_a_drill_of_a_cluster_that_may_not_be_meant_asks_it_nothing(api, arguments, said):
    code, out, err = run("deploy.cluster.drill", *arguments)
    assert (code, out, err) == (1, "", said)
    assert api.requests == []


@pytest.mark.parametrize(("given", "passed"), [(["CONTEXT=a@b"], " --context 'a@b'"), ([], "")])
def test_make_passes_the_context_to_the_drill(given, passed):
    # `make test` runs this inside another make, which would print the directories it enters and leaves.
    command = ["make", "--dry-run", "--no-print-directory", "drill", *given]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1].rstrip() == f"python -m deploy.cluster.drill{passed}"


@pytest.fixture
def fast(monkeypatch):
    """This process sleeps at most 10 ms at a time: the stand-in has no clock."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))


ROWS = ["nothing", "rolling update", "a pod deleted", "a node drained", "a bad release, and back", "a canary, and away"]


def nothing_is_left(cluster, api):
    """Whatever a drill changed is taken back. Returns its bad releases."""
    assert "neocog-drill" not in api.namespaces
    assert not any("unschedulable" in spec for spec in api.nodes.values())
    assert not cluster.exists("neocog-canary")
    wrong = {"name": "NEOCOG_BUNDLE", "value": "/nowhere"}
    bad = [one for one in api.replica_sets if wrong in one["spec"]["template"]["spec"]["containers"][0].get("env", [])]
    assert all(one["metadata"]["annotations"][release.FAILED] == "true" for one in bad)
    assert cluster.deployment().spec.template.spec.containers[0].env is None
    return bad


def test_a_drill_does_everything_and_leaves_nothing_behind(cluster, api):
    code, out, err = run("deploy.cluster.drill", "--context", "here")
    assert (code, err) == (0, "drill: neocog:dev has 1 of 5 pods: about 20% of the connections\n")
    *rows, last = out.splitlines()
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows[2:]] == ROWS
    assert last == "drill: 0 requests were lost"
    assert len(nothing_is_left(cluster, api)) == 1


def test_where_there_is_one_node_the_drill_says_that_it_drains_none(cluster, api):
    del api.nodes["b"]
    release.deploy(cluster, "neocog:two")  # on that node
    code, out, err = run("deploy.cluster.drill", "--context", "here")
    assert code == 0
    assert err.startswith("drill: no node is drained: there is no second one to take its pods\n")
    assert "a node drained" not in out


@pytest.mark.parametrize(("request_", "nth"), [
    ("POST /api/v1/namespaces", 1),
    ("POST /api/v1/namespaces/neocog-drill/configmaps", 1),
    ("POST /api/v1/namespaces/neocog-drill/pods", 1),
    ("GET /api/v1/namespaces/neocog-drill/pods/load-5/exec", 1),
    ("PATCH /apis/apps/v1/namespaces/neocog/deployments/neocog", 1),  # the rolling update
    ("PATCH /api/v1/nodes/a", 1),  # cordoned
    ("PATCH /api/v1/nodes/a", 2),  # freed
    ("PATCH /apis/apps/v1/namespaces/neocog/deployments/neocog", 2),  # the bad release
    ("PATCH /apis/apps/v1/namespaces/neocog/replicasets/neocog-3", 1),  # it is marked
    ("PATCH /apis/apps/v1/namespaces/neocog/deployments/neocog", 3),  # and left
    ("POST /apis/apps/v1/namespaces/neocog/deployments", 1),  # the canary
    ("DELETE /api/v1/namespaces/neocog-drill", 1),
])  # fmt: skip
def test_a_drill_that_is_interrupted_takes_back_what_it_changed(cluster, api, request_, nth):
    """The signal comes when the request has had its effect and is not yet answered; a second one soon after."""
    seen = []
    number = signal.SIGINT if nth == 1 else signal.SIGTERM

    def interrupt(answered):
        seen.append(answered)
        if (answered, seen.count(answered)) == (request_, nth):
            drilling.send_signal(number)
        if answered == "DELETE /api/v1/namespaces/neocog-drill":
            drilling.send_signal(signal.SIGTERM)

    api.before_answer = interrupt
    drilling = start("deploy.cluster.drill", "--context", "here")
    _, err = drilling.communicate(timeout=300)
    api.before_answer = lambda _: None
    assert seen.count(request_) >= nth
    assert drilling.returncode == 128 + number
    assert f"drill: {number.name}; taking back what was changed\n" in err
    assert "Traceback" not in err
    nothing_is_left(cluster, api)


def test_an_interrupted_command_is_one_line():
    with pytest.raises(SystemExit) as ended, one_line("release"):
        raise KeyboardInterrupt
    assert ended.value.code == 130


def test_a_node_is_freed_when_its_pods_are_gone(cluster, api, fast):
    api.budget = 2  # evictions that the disruption budget forbids first
    leaving = [name for name, pod in api.pods["neocog"].items() if pod["spec"]["nodeName"] == "a"]
    drill.drain(cluster)
    assert api.events[0] == "a is cordoned"
    assert api.events[-1] == "a is freed"
    assert len(leaving) == 2
    for name in leaving:
        assert api.events.index(f"{name} is evicted from a") < api.events.index(f"{name} is gone from a")
    assert api.budget == 0


def test_a_node_whose_pods_stay_too_long_is_freed_all_the_same(cluster, api, fast, monkeypatch):
    monkeypatch.setattr(drill, "GONE", 0)
    with pytest.raises(ClusterError, match="waited 0 seconds for the pods on a to be gone"):
        drill.drain(cluster)
    assert api.events[-1] == "a is freed"
    assert not any("is gone from a" in event for event in api.events)


def test_a_node_that_a_person_has_cordoned_is_not_freed(cluster, api):
    api.nodes["a"]["unschedulable"] = True
    assert drill.drainable(cluster) == ""  # b is alone
    api.nodes["c"] = {}
    assert drill.drainable(cluster) == "b"


def test_a_deleted_pod_is_waited_for_until_it_is_gone(cluster, api, fast):
    drill.delete_a_pod(cluster)
    assert [event.split()[2] for event in api.events] == ["evicted", "gone"]


def test_a_drill_touches_no_namespace_that_it_did_not_make(cluster, api):
    api.namespaces["neocog-drill"] = "Active"
    code, _, err = run("deploy.cluster.drill", "--context", "here")
    assert code == 1
    said = (
        "drill: the namespace neocog-drill is there: another drill runs, or `kubectl delete namespace neocog-drill`\n"
    )
    assert err == said
    assert api.namespaces["neocog-drill"] == "Active"


def test_a_drill_replaces_no_canary(cluster, api):
    release.canary(cluster, "neocog:two", 0.2)
    code, _, err = run("deploy.cluster.drill", "--context", "here")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("drill: neocog-canary is there, and the drill would replace it: ")
    assert image(cluster, "neocog-canary") == "neocog:two"


def test_a_namespace_that_stays_is_told(cluster, api, monkeypatch, capsys, fast):
    monkeypatch.setattr(drill, "GONE", 0)
    with drill.place(cluster):
        pass
    said = "drill: waited 0 seconds for the namespace neocog-drill to be gone; it is still terminating\n"
    assert capsys.readouterr().err == said


def test_a_namespace_that_may_not_be_deleted_is_told_and_hides_no_other_error(cluster, api, capsys):
    api.refused = {"DELETE": (403, "namespaces is forbidden")}
    told = "drill: the namespace neocog-drill can't be deleted (the API server answers 403: namespaces is forbidden)"
    with pytest.raises(ClusterError, match="an earlier one"), drill.place(cluster):
        raise ClusterError("an earlier one")
    assert capsys.readouterr().err.startswith(told)
    del api.namespaces["neocog-drill"]
    with pytest.raises(SystemExit) as ended, drill.place(cluster):
        pass
    assert ended.value.code == 1


@pytest.mark.parametrize(("tools", "said"), [
    ((), "cluster: kind is missing: https://kind.sigs.k8s.io"),
    (("kind",), "cluster: kubectl is missing: https://kubernetes.io"),
    (("kind", "kubectl"), "docker is missing: apt-get install docker.io, or https://docs.docker.com/engine/install/"),
])  # fmt: skip
def test_what_is_missing_is_said_with_where_to_get_it(tmp_path, tools, said):
    for tool in tools:
        (tmp_path / tool).write_text("#!/bin/sh\n")
        (tmp_path / tool).chmod(0o755)
    env = {"PATH": str(tmp_path), "DOCKER": "no-such-client"}
    command = [sys.executable, "-m", "deploy.cluster.up", "kind"]
    ran = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.startswith(said)


class Load:
    """The load generator, as a process."""

    def __init__(self, folder, address, digit, rate):
        picture = folder / f"picture-{digit}.png"
        picture.write_bytes((REPOSITORY / "samples" / "clean-3.png").read_bytes())
        env = os.environ | {"URL": address, "RATE": str(rate), "SECONDS": "600", "PICTURE": str(picture)}
        command = [sys.executable, REPOSITORY / "deploy" / "cluster" / "load.py"]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)

    def end(self):
        """What it counted."""
        self.process.send_signal(signal.SIGTERM)
        return json.loads(self.process.communicate(timeout=120)[0])["counts"]


def read_by(service):
    """The digit that it reads in the sample."""
    return service.http.post("/predict", content=(REPOSITORY / "samples" / "clean-3.png").read_bytes()).json()["digit"]


def answered(service):
    """How many pictures it has read. Asked on a connection that is closed at once: an open one would be drained."""
    with urllib.request.urlopen(f"{service.address}/metrics") as answer:
        found = re.search(
            r'^neocog_requests_total{code="200",route="/predict"} (\S+)', answer.read().decode(), re.MULTILINE
        )
    return float(found[1]) if found else 0


def end(service):
    service.http.close()  # it would be drained, too
    return service.stop()


def test_the_load_generator_counts_what_is_answered_and_what_is_lost(serve, tmp_path):
    """Against a service that ends."""
    make_bundle(tmp_path / "bundle")
    service = serve(bundle=tmp_path / "bundle", drain_seconds=30)
    load = Load(tmp_path, service.address, read_by(service), rate=200)
    until(lambda: answered(service) >= 200)
    assert end(service) == 0
    time.sleep(3)  # in which some of the 600 requests are sent, on any machine
    counts = load.end()
    assert counts["kept ok"] > 0
    assert counts["new ok"] > 0
    assert counts["kept ConnectionRefusedError"] > 0  # when it was gone
    # When the port closed, a request was refused or cut off; none got a wrong answer, or waited for one.
    ends = {"ok", "ConnectionRefusedError", "ConnectionResetError", "RemoteDisconnected"}
    assert {what.partition(" ")[2] for what in counts} <= ends


PAGE = (REPOSITORY / "docs" / "cluster.md").read_text()
K8S = {d["kind"]: d for file in (REPOSITORY / "k8s").glob("*.yaml") for d in yaml.safe_load_all(file.read_text())}
POD = K8S["Deployment"]["spec"]["template"]["spec"]
SCALER = K8S["HorizontalPodAutoscaler"]["spec"]
UP, DOWN = SCALER["behavior"]["scaleUp"], SCALER["behavior"]["scaleDown"]


@pytest.mark.parametrize(("words", "numbers"), [
    (r"`preStop` sleeps for (\d+) seconds", [POD["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]]),
    (r"up to (\d+) seconds \(`NEOCOG_DRAIN_SECONDS`\)", [K8S["ConfigMap"]["data"]["NEOCOG_DRAIN_SECONDS"]]),
    (r"(\d+) seconds after the\s+deletion the kubelet would kill", [POD["terminationGracePeriodSeconds"]]),
    (r"after (\d+) seconds without progress", [K8S["Deployment"]["spec"]["progressDeadlineSeconds"]]),
    (r"one of the last (\d+) is left", [K8S["Deployment"]["spec"]["revisionHistoryLimit"]]),
    (r"`maxUnavailable: (\d+)`", [K8S["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"]]),
    (r"(\d+) to (\d+) pods", [SCALER["minReplicas"], SCALER["maxReplicas"]]),
    (r"keeps the (\d+)", [SCALER["minReplicas"]]),
    (r"at most doubling every (\d+) seconds", [UP["policies"][0]["periodSeconds"]]),
    (r"by (\d+) pod every (\d+) seconds", [DOWN["policies"][0]["value"], DOWN["policies"][0]["periodSeconds"]]),
    (r"after (\d+) seconds of less load", [DOWN["stabilizationWindowSeconds"]]),
    (r"lets (\d+) ready pod be evicted", [K8S["PodDisruptionBudget"]["spec"]["maxUnavailable"]]),
])  # fmt: skip
def test_the_page_has_the_numbers_of_the_manifests(words, numbers):
    found = re.search(words, PAGE)
    assert [int(number) for number in found.groups()] == [int(number) for number in numbers]


def test_the_page_has_the_number_of_nodes_that_kind_gets():
    nodes = yaml.safe_load((REPOSITORY / "deploy" / "kind" / "cluster.yaml").read_text())["nodes"]
    assert f"a kind cluster of {['no', 'one', 'two', 'three'][len(nodes)]} nodes" in PAGE


def test_everything_that_the_page_names_is_there():
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)", PAGE, re.MULTILINE))
    assert {"kind-up", "drill"} < {one or other for one, other in named} <= targets
    paths = set(re.findall(r"`((?:tests|deploy|k8s)/[\w./-]+)`", PAGE)) | set(re.findall(r"\]\(\.\./(.*?)\)", PAGE))
    assert "tests/deploy/test_cluster.py" in paths
    assert [path for path in sorted(paths) if not (REPOSITORY / path).exists()] == []
    assert {path.name for path in (REPOSITORY / "k8s").glob("*.yaml")} >= set(
        re.findall(r"^\| `(\d\d-.*?)`", PAGE, re.MULTILINE)
    )


class Endpoints:
    """As kube-proxy has it: a new connection goes to one of the endpoints, and stays there when that one is gone."""

    def __init__(self, *ports):
        self.ports, self.connecting = list(ports), 0
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._forward, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def _forward(self, reader, writer):
        self.connecting += 1
        behind, to = await asyncio.open_connection("127.0.0.1", random.choice(self.ports))
        self.connecting -= 1
        await asyncio.gather(self._pass_on(reader, to), self._pass_on(behind, writer))

    @staticmethod
    async def _pass_on(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    def close(self):
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.call_later, 0.5, self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.mark.parametrize("drain", [30, 0])  # it ends as soon as no connection is left
def test_a_rolling_update_loses_no_request_as_long_as_pods_drain(serve, tmp_path, drain):
    """Two pods replaced one after the other, in the kubelet's order, under load on new and kept-alive connections.

    Kept-alive connections are mostly idle at this rate. Without draining, those that are idle when a pod goes are cut.
    """
    pods = [serve(drain_seconds=drain) for _ in range(2)]
    endpoints = Endpoints(*(pod.port for pod in pods))
    load = Load(tmp_path, f"http://127.0.0.1:{endpoints.port}", read_by(pods[0]), rate=100)
    until(lambda: sum(map(answered, pods)) >= 200)
    for old in pods:
        new = serve(drain_seconds=drain)  # ready
        new.http.close()  # or the pod would be drained of it after the test
        endpoints.ports.append(new.port)
        endpoints.ports.remove(old.port)
        until(lambda: not endpoints.connecting)
        time.sleep(1)  # preStop
        assert end(old) == 0
    until(lambda: answered(new) >= 50)
    counts = load.end()
    endpoints.close()
    print(counts)
    assert counts["kept ok"] > 0
    assert counts["new ok"] > 0
    lost = sum(counts.values()) - counts["kept ok"] - counts["new ok"]
    if drain:
        assert lost == 0
    else:
        assert lost > 0  # what draining is for
