"""Starts a retraining when Alertmanager says that the model does harm: an HTTP server for its webhook.

    python -m deploy.monitoring.retrain --token FILE --job neocog-platform/retrain       # a Job of that CronJob
    python -m deploy.monitoring.retrain --token FILE --workflow OWNER/NAME/retrain.yml   # on GitHub, by GITHUB_TOKEN
    python -m deploy.monitoring.retrain --token FILE -- dvc repro                        # a command on this machine

It starts a retraining, and no more: the gate decides whether the new model is served. One retraining runs at a time.
FILE holds the token that Alertmanager sends as `Authorization: Bearer`. Only the standard library is used, since the
training image has no client of Kubernetes.
"""

import argparse
import hmac
import json
import os
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

LARGEST: Final = 1_000_000  # bytes of a notification; Alertmanager's has about 1,000 for each alert of a group
PATIENCE: Final = 10  # seconds for a client to send, and for an API to answer
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # token and ca.crt; the token is renewed there
SHORTEST: Final = 16  # characters of a token

Start = Callable[[], str]  # starts a retraining, and says what it did; raises `Busy` or `NotStartedError`


class BusyError(Exception):
    """A retraining runs already. The notification is done with: the next one comes if the harm lasts."""


class NotStartedError(Exception):
    """The retraining could not be started. Alertmanager tries again."""


def wants_retraining(body: bytes) -> bool:
    """Whether a notification of Alertmanager's holds an alert that fires and has the label `action: retrain`.

    Raises `ValueError` where it is no such notification (version 4 of the webhook's format).
    """
    told = json.loads(body)
    if not isinstance(told, dict) or not isinstance(told.get("alerts"), list):
        raise ValueError("not a notification of Alertmanager's: no list of alerts")
    return any(
        isinstance(alert, dict)
        and alert.get("status") == "firing"
        and isinstance(alert.get("labels"), dict)
        and alert["labels"].get("action") == "retrain"
        for alert in told["alerts"]
    )


def ask(url: str, token: str, body: dict[str, Any] | None = None, ca: Path | None = None) -> Any:
    """GET, or POST of JSON. Returns the answer's JSON, None where it is empty. Raises `NotStartedError`."""
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "Content-Type": "application/json"}
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)
    context = ssl.create_default_context(cafile=ca) if ca else None
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
            said = answer.read()
            return json.loads(said) if said else None
    except urllib.error.HTTPError as error:
        raise NotStartedError(f"{url} answers {error.code}: {error.read(500).decode(errors='replace')}") from None
    except (OSError, ValueError) as error:
        raise NotStartedError(f"{url}: {error}") from None


def unfinished(job: dict[str, Any]) -> bool:
    """Whether a Job still runs or waits. The Job controller sets one of the two conditions when it has ended."""
    conditions = job.get("status", {}).get("conditions") or ()
    return not any(c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in conditions)


def job_of(cron: dict[str, Any]) -> dict[str, Any]:
    """The Job that `kubectl create job --from=cronjob/…` would make. The API server completes its name.

    As there, the owner reference does not block the owner's deletion, for which some clusters ask for more rights.
    """
    template, meta = cron["spec"]["jobTemplate"], cron["metadata"]
    made = template.get("metadata", {})
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": meta["name"], "uid": meta["uid"], "controller": True}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "generateName": f"{meta['name']}-alert-",
            "labels": made.get("labels", {}),
            "annotations": made.get("annotations", {}) | {"cronjob.kubernetes.io/instantiate": "manual"},
            "ownerReferences": [owner],
        },
        "spec": template["spec"],
    }


class Job:
    """A Job of a CronJob, `NAMESPACE/NAME`, in the cluster that this runs in."""

    def __init__(self, name: str, *, server: str, account: Path = ACCOUNT) -> None:
        namespace, _, self._name = name.partition("/")
        self._api = f"{server}/apis/batch/v1/namespaces/{namespace}"
        self._account = account

    def __call__(self) -> str:
        cron = self._ask(f"cronjobs/{self._name}")
        made = job_of(cron)
        # A Job that the schedule made has the template's labels, too.
        selector = ",".join(f"{key}%3D{value}" for key, value in made["metadata"]["labels"].items())
        running = [job for job in self._ask(f"jobs?labelSelector={selector}")["items"] if unfinished(job)]
        if running:
            raise BusyError(f"Job {running[0]['metadata']['name']} has not ended")
        return f"Job {self._ask('jobs', made)['metadata']['name']}"

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            token = (self._account / "token").read_text().strip()
        except OSError as error:
            raise NotStartedError(str(error)) from None
        ca = self._account / "ca.crt"
        return ask(f"{self._api}/{path}", token, body, ca if ca.exists() else None)


class Workflow:
    """A workflow of GitHub's, `OWNER/NAME/FILE`, on the branch main. Its `concurrency` allows one run at a time."""

    def __init__(self, name: str, *, server: str, token: str) -> None:
        owner, repository, file = name.split("/")
        self._url = f"{server}/repos/{owner}/{repository}/actions/workflows/{file}/dispatches"
        self._token = token

    def __call__(self) -> str:
        ask(self._url, self._token, {"ref": "main"})
        return f"workflow {self._url}"


class Command:
    """A command on this machine. Its output is this program's."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> str:
        if self._process and self._process.poll() is None:
            raise BusyError(f"process {self._process.pid} has not ended")
        try:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL)
        except OSError as error:
            raise NotStartedError(str(error)) from None
        return f"process {self._process.pid}"


class Receiver(ThreadingHTTPServer):
    """Listens for Alertmanager. `start` is called for one notification at a time."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], token: str, start: Start) -> None:
        super().__init__(address, _Handler)
        self.token, self._start, self._one_at_a_time = token.encode(), start, threading.Lock()

    def notified(self, body: bytes) -> tuple[int, str]:
        """What becomes of a notification: a status and a sentence. Alertmanager sends it again after a 5xx."""
        try:
            if not wants_retraining(body):
                return 200, "no alert that fires asks for a retraining"
            with self._one_at_a_time:
                return 202, f"started: {self._start()}"
        except (ValueError, RecursionError) as error:
            return 400, str(error)
        except BusyError as error:
            return 200, f"not started: {error}"
        except NotStartedError as error:
            return 503, f"not started: {error}"


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE
    server: Receiver

    def do_GET(self) -> None:
        self._answer(*((200, "ok") if self.path == "/livez" else (404, "POST / is all there is")))

    def do_POST(self) -> None:
        status, said = self._refusal() or self.server.notified(self.rfile.read(int(self.headers["Content-Length"])))
        print(f"retrain: {' '.join(said.split())}", flush=True)
        self._answer(status, said)

    def _refusal(self) -> tuple[int, str] | None:
        """Why the body is not even read."""
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), b"Bearer " + self.server.token):
            return 401, "the token is missing or wrong"
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return 411, "a Content-Length is needed"
        if len(length) > len(str(LARGEST)) or int(length) > LARGEST:
            return 413, f"a notification has at most {LARGEST} bytes"
        return None

    def _answer(self, status: int, said: str) -> None:
        body = f"{' '.join(said.split())}\n".encode()
        self.close_connection = True  # what of the body is unread must not be taken for a request
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the class's name for it
        """Nothing: `do_POST` prints what was done."""


def starter(options: argparse.Namespace) -> Start:
    """What the command line asks for."""
    if options.job:
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT_HTTPS", "443")
        if not host:
            sys.exit("retrain: --job works inside a cluster only: KUBERNETES_SERVICE_HOST is not set")
        return Job(options.job, server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")
    if options.workflow:
        if not (token := os.environ.get("GITHUB_TOKEN")):
            sys.exit("retrain: --workflow needs GITHUB_TOKEN, a token that may write the repository's actions")
        return Workflow(
            options.workflow, server=os.environ.get("GITHUB_API_URL", "https://api.github.com"), token=token
        )
    return Command(options.command)


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="retrain", description="Start a retraining when Alertmanager asks for one.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9095)
    parser.add_argument("--token", type=Path, required=True, metavar="FILE")
    parser.add_argument("--job", metavar="NAMESPACE/CRONJOB")
    parser.add_argument("--workflow", metavar="OWNER/NAME/FILE")
    parser.add_argument("command", nargs="*", help="after --")
    options = parser.parse_args(arguments)
    if sum(map(bool, (options.job, options.workflow, options.command))) != 1:
        parser.error("one of --job, --workflow and a command is needed")
    for option, parts in ((options.job, 2), (options.workflow, 3)):
        if option and (len(option.split("/")) != parts or not all(option.split("/"))):
            parser.error(f"{option} does not have {parts} parts with / between them")
    return options


def main() -> None:
    options = parsed()
    try:
        token = options.token.read_text().strip()
    except OSError as error:
        sys.exit(f"retrain: {error}")
    if len(token) < SHORTEST:
        sys.exit(f"retrain: the token in {options.token} has {len(token)} characters; at least {SHORTEST} are needed")
    try:
        receiver = Receiver((options.host, options.port), token, starter(options))
    except OSError as error:
        sys.exit(f"retrain: {options.host}:{options.port}: {error}")
    print(f"retrain: listening on {options.host}:{receiver.server_address[1]}", flush=True)
    try:
        receiver.serve_forever()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
