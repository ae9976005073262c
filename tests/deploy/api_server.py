"""A stand-in for a cluster: an API server over HTTP, and as much of the controllers as the scripts rely on."""

import base64
import copy
import hashlib
import http.client
import http.server
import itertools
import json
import re
import threading

from deploy.cluster import release

CORE, APPS = "/api/v1/namespaces", "/apis/apps/v1/namespaces/neocog"
VERSION = "major minor gitVersion gitCommit gitTreeState buildDate goVersion compiler platform"
PROXY = f"{CORE}/neocog/services/neocog:http/proxy"
LINGER = 3  # so many times a pod or a namespace that is being deleted is still listed


class ApiServer(http.server.ThreadingHTTPServer):
    """The cluster's state. `requests` has each request as `METHOD path`, `events` what happened to nodes and pods."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.deployments, self.replica_sets, self.revision = {}, [], 0
        self.nodes = {"a": {}, "b": {}, "master": {"taints": [{"key": "control-plane", "effect": "NoSchedule"}]}}
        self.pods = {"neocog": {}, "neocog-drill": {}}
        self.namespaces = {"neocog": "Active"}
        self.requests, self.events, self.ids = [], [], itertools.count(1)
        self.refused = {}  # pattern of a request: what it is answered with, a status and a message; None: with nothing
        self.before_answer = lambda request: None  # called when a request has had its effect
        self.lag = 0  # so many times a Deployment is read before its controller has seen the last change
        self.budget = 0  # so many evictions are refused first
        self.load_phase = "Running"
        self._controller, self._left = None, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def close(self):
        self.shutdown()
        self.server_close()

    def change(self, document):
        """Stores a Deployment. What its controller does comes at once, or `lag` readings later."""
        meta = document["metadata"]
        document["spec"].setdefault("replicas", 2)
        meta["generation"] = meta.get("generation", 0) + 1
        meta.setdefault("uid", meta["name"])
        meta["annotations"] = meta.get("annotations") or {}
        document.setdefault("status", {})
        self.deployments[meta["name"]] = document
        self._controller, self._left = lambda: self.roll_out(document), self.lag
        self.time_passes()

    def time_passes(self):
        if self._controller and self._left == 0:
            controller, self._controller = self._controller, None
            controller()
        self._left -= 1

    def roll_out(self, document):
        """Each change is a revision, and a ReplicaSet remembers it. What is bad never gets ready, its old pods stay."""
        meta, spec = document["metadata"], document["spec"]
        self.revision += 1
        meta["annotations"][release.REVISION] = str(self.revision)
        document["status"] = {"observedGeneration": meta["generation"], "replicas": spec["replicas"]}
        [container] = spec["template"]["spec"]["containers"]
        if "bad" in container["image"] or {"name": "NEOCOG_BUNDLE", "value": "/nowhere"} in container.get("env", []):
            condition = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
            document["status"]["conditions"] = [condition | {"message": "too late"}]
        else:
            document["status"] |= {f"{which}Replicas": spec["replicas"] for which in ("updated", "available", "ready")}
            if meta["name"] == "neocog":
                self.pods["neocog"] = {}
                self.fill()
        template = copy.deepcopy(spec["template"])
        template["metadata"]["labels"]["pod-template-hash"] = "abc"
        known = [one for one in self.replica_sets if one["spec"]["template"] == template]
        if known:  # a rollback takes the ReplicaSet of then, and gives it the newest number
            known[0]["metadata"]["annotations"][release.REVISION] = str(self.revision)
        else:
            name = f"{meta['name']}-{self.revision}"
            owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}
            made = {"name": name, "uid": name, "ownerReferences": [owner]}
            made["annotations"] = {release.REVISION: str(self.revision)}
            self.replica_sets.append({"metadata": made, "spec": {"selector": spec["selector"], "template": template}})

    def fill(self):
        """As many ready pods as the stable Deployment asks for, spread over the nodes that take pods."""
        pods = self.pods["neocog"]
        free = [name for name, spec in self.nodes.items() if not spec.get("unschedulable") and "taints" not in spec]
        there = [pod for pod in pods.values() if "deletionTimestamp" not in pod["metadata"]]
        for _ in range(self.deployments["neocog"]["spec"]["replicas"] - len(there)):
            name = f"neocog-{next(self.ids)}"
            labels = self.deployments["neocog"]["spec"]["template"]["metadata"]["labels"]
            pods[name] = {
                "metadata": {"name": name, "uid": name, "labels": labels},
                "spec": {"nodeName": free[len(pods) % len(free)], "containers": []},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
            }

    def terminate(self, name):
        """The pod is being deleted. It is gone only after it was listed a few times more."""
        self.events.append(f"{name} is evicted from {self.pods['neocog'][name]['spec']['nodeName']}")
        self.pods["neocog"][name]["metadata"]["deletionTimestamp"] = "2026-11-24T00:00:00Z"
        self.pods["neocog"][name]["listed"] = 0
        self.fill()

    def list_pods(self):
        listed = list(self.pods["neocog"].items())
        for name, pod in listed:
            if "listed" in pod:
                pod["listed"] += 1
                if pod["listed"] > LINGER:
                    self.events.append(f"{name} is gone from {pod['spec']['nodeName']}")
                    del self.pods["neocog"][name]
        return [pod for name, pod in listed if name in self.pods["neocog"]]


class Handler(http.server.BaseHTTPRequestHandler):
    """Routes by method and path."""

    def handle_request(self):
        path, _, query = self.path.partition("?")
        asked = f"{self.command} {path}"
        self.server.requests.append(asked)
        for pattern, answer in self.server.refused.items():
            if re.search(pattern, asked):
                self.sent()
                return self.refuse(*answer) if answer else self.connection.close()
        if path.startswith(PROXY):
            return self.forward()
        for pattern, handle in ROUTES:
            if found := re.fullmatch(pattern, asked):
                return handle(self, *found.groups(), query=query)
        return self.refuse(404, f"{asked} is not in the stand-in")

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request  # noqa: N815 - the standard library's names

    def sent(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        return json.loads(body) if body[:1] in (b"{", b"[") else body

    def say(self, document, code=200, kind="application/json"):
        self.server.before_answer(f"{self.command} {self.path.partition('?')[0]}")
        body = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, code, message):
        self.say({"kind": "Status", "status": "Failure", "message": message, "code": code}, code)

    def log_message(self, *_):
        pass

    def forward(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.server.service)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {"Content-Type": self.headers.get("Content-Type", "")}
        connection.request(self.command, self.path.removeprefix(PROXY), body, headers)
        answer = connection.getresponse()
        self.say(json.loads(answer.read()), answer.status)
        connection.close()

    def version(self, query):
        self.say(dict.fromkeys(VERSION.split(), "1"))

    def list_deployments(self, query):
        wanted = named(query)
        self.say({"items": [d for name, d in self.server.deployments.items() if name == wanted]})

    def read_deployment(self, name, query):
        self.server.time_passes()
        found = self.server.deployments.get(name)
        self.say(found) if found else self.refuse(404, f'deployments.apps "{name}" not found')

    def store_deployment(self, name=None, query=""):
        document = self.sent()
        self.server.change(document)
        self.say(document)

    def patch_deployment(self, name, query):
        document, sent = self.server.deployments[name], self.sent()
        if isinstance(sent, list):
            [operation] = sent
            assert (operation["op"], operation["path"]) == ("replace", "/spec/template")
            document["spec"]["template"] = operation["value"]
        else:
            merge(document, sent)
        self.server.change(document)
        self.say(document)

    def delete_deployment(self, name, query):
        del self.server.deployments[name]
        self.say({"kind": "Status", "status": "Success"})

    def list_replica_sets(self, query):
        self.say({"items": self.server.replica_sets})

    def patch_replica_set(self, name, query):
        [found] = [one for one in self.server.replica_sets if one["metadata"]["name"] == name]
        merge(found, self.sent())
        self.say(found)

    def autoscaler(self, query):
        target = {"kind": "Deployment", "name": "neocog"}
        self.say({"spec": {"minReplicas": 2, "maxReplicas": 6, "scaleTargetRef": target}})

    def list_nodes(self, query):
        self.say({"items": [{"metadata": {"name": name}, "spec": spec} for name, spec in self.server.nodes.items()]})

    def patch_node(self, name, query):
        merge(self.server.nodes[name], self.sent()["spec"])
        self.server.events.append(f"{name} is {'cordoned' if self.server.nodes[name] else 'freed'}")
        self.say({"metadata": {"name": name}, "spec": self.server.nodes[name]})

    def list_pods(self, query):
        self.say({"items": self.server.list_pods()})

    def delete_pod(self, name, query):
        self.server.terminate(name)
        self.say(self.server.pods["neocog"][name])

    def evict(self, name, query):
        self.sent()
        if self.server.budget > 0:
            self.server.budget -= 1
            return self.refuse(429, "Cannot evict pod as it would violate the pod's disruption budget.")
        self.server.terminate(name)
        return self.say({"kind": "Status", "status": "Success"})

    def list_namespaces(self, query):
        wanted = named(query)
        phase = self.server.namespaces.get(wanted)
        if isinstance(phase, int):  # being deleted: listed so many times more
            self.server.namespaces[wanted] -= 1
            if phase == 0:
                del self.server.namespaces[wanted]
        self.say({"items": [{"metadata": {"name": wanted}}] if phase else []})

    def create_namespace(self, query):
        document = self.sent()
        name = document["metadata"]["name"]
        if name in self.server.namespaces:
            return self.refuse(409, f'namespaces "{name}" already exists')
        self.server.namespaces[name] = "Active"
        return self.say(document)

    def delete_namespace(self, name, query):
        if name not in self.server.namespaces:
            return self.refuse(404, f'namespaces "{name}" not found')
        self.server.namespaces[name] = LINGER
        return self.say({"kind": "Status", "status": "Success"})

    def create(self, query):
        self.say(self.sent())

    def create_load(self, query):
        pod = self.sent()
        pod["metadata"]["name"] = f"load-{next(self.server.ids)}"
        pod["status"] = {"phase": self.server.load_phase}
        self.server.pods["neocog-drill"][pod["metadata"]["name"]] = pod
        self.say(pod)

    def read_load(self, name, query):
        self.say(self.server.pods["neocog-drill"][name])

    def read_log(self, name, query):
        self.say({"counts": {"new ok": 2}, "slowest": 0.1}, kind="text/plain")

    def execute(self, name, query):
        """Over a websocket, as the API server does; the command ends at once, and with it the load generator."""
        self.server.before_answer(f"GET {self.path.partition('?')[0]}")
        self.server.pods["neocog-drill"][name]["status"]["phase"] = "Succeeded"
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        head += [f"Sec-WebSocket-Accept: {accept}", "Sec-WebSocket-Protocol: v4.channel.k8s.io", "", ""]
        self.wfile.write("\r\n".join(head).encode() + b"\x88\x00")  # and a close frame
        self.rfile.read(1)


def named(query):
    return re.search(r"metadata\.name%3D([\w-]+)", query)[1]


def merge(document, patch):
    """As a strategic merge patch: None deletes, containers are merged by their name (there is one)."""
    for key, value in patch.items():
        if value is None:
            document.pop(key, None)
        elif key == "containers":
            merge(document[key][0], value[0])
        elif isinstance(value, dict) and isinstance(document.get(key), dict):
            merge(document[key], value)
        else:
            document[key] = value


NAME = r"([\w-]+)"
ROUTES = [
    ("GET /version/", Handler.version),
    (f"GET {APPS}/deployments", Handler.list_deployments),
    (f"POST {APPS}/deployments", Handler.store_deployment),
    (f"GET {APPS}/deployments/{NAME}", Handler.read_deployment),
    (f"PUT {APPS}/deployments/{NAME}", Handler.store_deployment),
    (f"PATCH {APPS}/deployments/{NAME}", Handler.patch_deployment),
    (f"DELETE {APPS}/deployments/{NAME}", Handler.delete_deployment),
    (f"GET {APPS}/replicasets", Handler.list_replica_sets),
    (f"PATCH {APPS}/replicasets/{NAME}", Handler.patch_replica_set),
    ("GET /apis/autoscaling/v2/namespaces/neocog/horizontalpodautoscalers/neocog", Handler.autoscaler),
    ("GET /api/v1/nodes", Handler.list_nodes),
    (f"PATCH /api/v1/nodes/{NAME}", Handler.patch_node),
    (f"GET {CORE}/neocog/pods", Handler.list_pods),
    (f"DELETE {CORE}/neocog/pods/{NAME}", Handler.delete_pod),
    (f"POST {CORE}/neocog/pods/{NAME}/eviction", Handler.evict),
    (f"GET {CORE}", Handler.list_namespaces),
    (f"POST {CORE}", Handler.create_namespace),
    (f"DELETE {CORE}/{NAME}", Handler.delete_namespace),
    (f"POST {CORE}/neocog-drill/configmaps", Handler.create),
    (f"POST {CORE}/neocog-drill/pods", Handler.create_load),
    (f"GET {CORE}/neocog-drill/pods/{NAME}", Handler.read_load),
    (f"GET {CORE}/neocog-drill/pods/{NAME}/log", Handler.read_log),
    (f"GET {CORE}/neocog-drill/pods/{NAME}/exec", Handler.execute),
]
