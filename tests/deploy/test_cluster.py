"""The scripts that speak with a cluster. There is none here: a small stand-in answers as its API server would."""

import asyncio
import base64
import contextlib
import http.client
import http.server
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml

from scripts.cluster import drill, release
from scripts.cluster.api import Cluster
from tests.bundles import make_bundle
from tests.conftest import REPOSITORY

DEPLOYMENTS = "/apis/apps/v1/namespaces/neocog/deployments"
VERSION = "major minor gitVersion gitCommit gitTreeState buildDate goVersion compiler platform"
PROXY = "/api/v1/namespaces/neocog/services/neocog:http/proxy"


class Api(http.server.BaseHTTPRequestHandler):
    """Deployments that roll out at once, but for images named `bad`, which never do; and the Service's proxy."""

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/version/":
            return self.say(dict.fromkeys(VERSION.split(), "1"))
        if path.endswith("/log"):
            return self.say({"counts": {"new ok": 2}, "slowest": 0.1}, kind="text/plain")
        if path.endswith("/replicasets"):
            return self.say({"items": self.server.replica_sets})
        if path == DEPLOYMENTS:
            wanted = re.search("metadata.name%3D([\\w-]+)", query)[1]
            return self.say({"items": [d for name, d in self.server.deployments.items() if name == wanted]})
        return self.forward() if path.startswith(PROXY) else self.one()

    def one(self):
        found = self.server.deployments.get(self.path.rpartition("/")[2])
        return self.say(found) if found else self.say({"message": "not found"}, 404)

    def do_POST(self):
        if self.path.startswith(PROXY):
            return self.forward()
        return self.store(self.sent())

    def do_PUT(self):
        return self.store(self.sent())

    def do_PATCH(self):
        name, sent = self.path.rpartition("/")[2], self.sent()
        if "/replicasets/" in self.path:
            [found] = [one for one in self.server.replica_sets if one["metadata"]["name"] == name]
            found["metadata"]["annotations"] |= sent["metadata"]["annotations"]
            return self.say(found)
        found = self.server.deployments[name]
        if isinstance(sent, list):
            [operation] = sent
            assert (operation["op"], operation["path"]) == ("replace", "/spec/template")
            found["spec"]["template"] = operation["value"]
            return self.store(found)
        for container in sent["spec"]["template"]["spec"]["containers"]:
            found["spec"]["template"]["spec"]["containers"][0] |= container
        return self.store(found)

    def do_DELETE(self):
        del self.server.deployments[self.path.rpartition("/")[2]]
        return self.say({"kind": "Status", "status": "Success"})

    def store(self, document):
        """Rolled out by the time that it is answered; each change is a revision, and a ReplicaSet remembers it."""
        meta, spec = document["metadata"], document["spec"]
        spec.setdefault("replicas", 2)
        meta["generation"] = meta.get("generation", 0) + 1
        self.server.revision += 1
        meta["annotations"] = (meta.get("annotations") or {}) | {release.REVISION: str(self.server.revision)}
        meta.setdefault("uid", meta["name"])
        document["status"] = {"observedGeneration": meta["generation"], "replicas": spec["replicas"]}
        if "bad" in spec["template"]["spec"]["containers"][0]["image"]:
            said = {
                "type": "Progressing",
                "status": "False",
                "reason": "ProgressDeadlineExceeded",
                "message": "too late",
            }
            document["status"]["conditions"] = [said]
        else:
            for which in ("updated", "available", "ready"):
                document["status"][f"{which}Replicas"] = spec["replicas"]
        template = json.loads(json.dumps(spec["template"]))
        template["metadata"]["labels"]["pod-template-hash"] = "abc"
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}
        known = [one for one in self.server.replica_sets if one["spec"]["template"] == template]
        if known:  # a rollback takes the ReplicaSet of then, and gives it the newest number
            known[0]["metadata"]["annotations"][release.REVISION] = str(self.server.revision)
        else:
            made = {"name": f"{meta['name']}-{self.server.revision}", "ownerReferences": [owner]}
            made["annotations"] = {release.REVISION: str(self.server.revision)}
            self.server.replica_sets.append(
                {"metadata": made, "spec": {"selector": spec["selector"], "template": template}}
            )
        self.server.deployments[meta["name"]] = document
        return self.say(document)

    def forward(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.service)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {"Content-Type": self.headers.get("Content-Type", "")}
        connection.request(self.command, self.path.removeprefix(PROXY), body, headers)
        answer = connection.getresponse()
        self.say(json.loads(answer.read()), answer.status)
        connection.close()

    def sent(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def say(self, document, code=200, kind="application/json"):
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def api(tmp_path, monkeypatch):
    """The stand-in, the one that kubectl's context names, with k8s/ applied."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    server.daemon_threads = True
    server.deployments, server.replica_sets, server.revision = {}, [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "users": [{"name": "me", "user": {"token": "t"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "me"}}],
    }  # fmt: skip
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def cluster(api):
    found = Cluster()
    stable = yaml.safe_load((REPOSITORY / "k8s" / "30-deployment.yaml").read_text())
    stable["spec"]["replicas"] = 4  # the autoscaler's
    found.apps.create_namespaced_deployment("neocog", stable)
    return found


def image(cluster, name="neocog"):
    return cluster.deployment(name).spec.template.spec.containers[0].image


def test_a_release_rolls_out_and_back(cluster):
    assert release.deploy(cluster, "neocog:two") == "neocog:two serves, instead of neocog:dev"
    assert release.deploy(cluster, "neocog:three") == "neocog:three serves, instead of neocog:two"
    assert release.rollback(cluster).endswith("neocog:two")
    assert image(cluster) == "neocog:two"
    assert cluster.deployment().spec.replicas == 4
    assert "pod-template-hash" not in cluster.deployment().spec.template.metadata.labels


def test_a_release_that_never_gets_ready_goes_back_by_itself(cluster):
    release.deploy(cluster, "neocog:two")
    with pytest.raises(SystemExit, match="neocog has not rolled out: too late; neocog:two serves on"):
        release.deploy(cluster, "neocog:bad")
    assert image(cluster) == "neocog:two"
    assert release.rollback(cluster).endswith("neocog:dev")  # not to the one that failed


def test_there_is_nothing_before_the_first(cluster):
    with pytest.raises(SystemExit, match="nothing to go back to"):
        release.rollback(cluster)


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


def test_a_canary_is_promoted_and_gone(cluster):
    release.canary(cluster, "neocog:two", 0.2)
    release.promote(cluster)
    assert image(cluster) == "neocog:two"
    assert not cluster.exists("neocog-canary")


def test_a_canary_that_never_gets_ready_is_gone_too(cluster):
    with pytest.raises(SystemExit, match="the canary is gone again, the stable pods serve on"):
        release.canary(cluster, "neocog:bad", 0.2)
    assert not cluster.exists("neocog-canary")
    with pytest.raises(SystemExit, match="no Deployment neocog-canary in neocog"):
        release.promote(cluster)


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


def test_what_the_load_generator_counted_is_read_from_its_log(cluster):
    assert drill.counted(cluster, "load-1") == {"counts": {"new ok": 2}, "slowest": 0.1}


def test_an_answer_that_is_an_error_is_a_line(cluster, api, serve):
    api.service = serve().port
    with pytest.raises(RuntimeError, match=r"POST /predict is answered with 415: .*not-an-image"):
        cluster.ask("POST", "/predict", b"no picture")


def test_where_there_is_no_cluster_it_is_said_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(SystemExit, match="no kubeconfig; `make kind-up`"):
        Cluster()


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
    command = [sys.executable, "-m", "scripts.cluster.up", "kind"]
    ran = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.startswith(said)


def test_the_load_generator_counts_what_is_answered_and_what_is_lost(serve, tmp_path):
    """Against a service that ends."""
    bundle = tmp_path / "bundle"
    make_bundle(bundle)
    service = serve(bundle=bundle, drain_seconds=2)
    picture = REPOSITORY / "samples" / "clean-3.png"
    digit = service.http.post("/predict", content=picture.read_bytes()).json()["digit"]
    (tmp_path / f"picture-{digit}.png").write_bytes(picture.read_bytes())
    env = {**os.environ, "URL": service.address, "RATE": "200", "SECONDS": "30"}
    env["PICTURE"] = str(tmp_path / f"picture-{digit}.png")
    command = [sys.executable, REPOSITORY / "scripts" / "cluster" / "load.py"]
    load = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    time.sleep(2)
    assert service.stop() == 0
    time.sleep(0.5)
    load.send_signal(signal.SIGTERM)
    counts = json.loads(load.communicate(timeout=30)[0])["counts"]
    assert counts["kept ok"] > 50
    assert counts["new ok"] > 50
    assert counts["kept ConnectionRefusedError"] > 0  # when it was gone
    # What came when the port closed was refused or reset; no answer was a wrong one, no open connection just ended.
    assert {what.partition(" ")[2] for what in counts} <= {"ok", "ConnectionRefusedError", "ConnectionResetError"}


class Endpoints:
    """As kube-proxy has it: a new connection goes to one of the endpoints, and stays there when that one is gone."""

    def __init__(self, *ports):
        self.ports = list(ports)
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._forward, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    async def _forward(self, reader, writer):
        behind, to = await asyncio.open_connection("127.0.0.1", random.choice(self.ports))
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


@pytest.mark.parametrize("drain", [3, 0])
def test_a_rolling_update_loses_no_request_as_long_as_pods_drain(serve, tmp_path, drain):
    """Two pods replaced one after the other, in the kubelet's order, under load on new and kept-alive connections."""
    picture = REPOSITORY / "samples" / "clean-3.png"
    pods = [serve(drain_seconds=drain) for _ in range(2)]
    digit = pods[0].http.post("/predict", content=picture.read_bytes()).json()["digit"]
    (tmp_path / f"picture-{digit}.png").write_bytes(picture.read_bytes())
    endpoints = Endpoints(*(pod.port for pod in pods))
    env = {**os.environ, "URL": f"http://127.0.0.1:{endpoints.port}", "RATE": "400", "SECONDS": "120"}
    env["PICTURE"] = str(tmp_path / f"picture-{digit}.png")
    command = [sys.executable, REPOSITORY / "scripts" / "cluster" / "load.py"]
    load = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    time.sleep(2)
    for old in pods:
        new = serve(drain_seconds=drain)  # ready
        endpoints.ports.append(new.port)
        endpoints.ports.remove(old.port)
        time.sleep(1)  # preStop
        assert old.stop() == 0
    time.sleep(1)
    load.send_signal(signal.SIGTERM)
    counts = json.loads(load.communicate(timeout=30)[0])["counts"]
    endpoints.close()
    print(counts)
    assert counts["kept ok"] > 100
    assert counts["new ok"] > 100
    lost = sum(counts.values()) - counts["kept ok"] - counts["new ok"]
    if drain:
        assert lost == 0
    else:
        assert lost > 0  # what draining is for
