"""The receiver of Alertmanager's webhook: who may start a retraining, when, and what is started."""

import http.server
import json
import socket
import subprocess
import sys
import threading

import httpx2
import pytest
import yaml

from deploy.monitoring.retrain import BusyError, Command, Job, NotStartedError, Receiver, Workflow, wants_retraining
from tests.conftest import REPOSITORY

TOKEN = "0123456789abcdef"
HARM = {"status": "firing", "labels": {"alertname": "NeocogHarm", "action": "retrain"}}
CRON = yaml.safe_load((REPOSITORY / "deploy" / "training" / "cronjob.yaml").read_text())


def notification(*alerts):
    return json.dumps({"version": "4", "status": "firing", "alerts": list(alerts)}).encode()


@pytest.fixture
def receiver():
    """A receiver on a free port. `started` counts what it started; `trouble` is what the next one meets."""

    def begin():
        if made.trouble:
            raise made.trouble
        made.started += 1
        return "a retraining"

    made = Receiver(("127.0.0.1", 0), TOKEN, begin)
    made.started, made.trouble = 0, None
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    with httpx2.Client(base_url=f"http://127.0.0.1:{made.server_address[1]}", timeout=120) as made.http:
        yield made
    made.shutdown()
    thread.join()
    made.server_close()


def post(receiver, body, token=TOKEN, **headers):
    return receiver.http.post("/", content=body, headers={"Authorization": f"Bearer {token}", **headers})


def test_harm_starts_one(receiver):
    answer = post(receiver, notification(HARM))
    assert (answer.status_code, answer.text) == (202, "started: a retraining\n")
    assert receiver.started == 1


@pytest.mark.parametrize(
    "alert",
    [
        HARM | {"status": "resolved"},
        HARM | {"labels": {"alertname": "NeocogRisk", "severity": "ticket"}},
        HARM | {"labels": {"action": "promote"}},
        HARM | {"labels": None},
        "an alert",
    ],
)
def test_what_is_over_or_asks_for_something_else_starts_nothing(receiver, alert):
    answer = post(receiver, notification(alert))
    assert (answer.status_code, answer.text) == (200, "no alert that fires asks for a retraining\n")
    assert receiver.started == 0


@pytest.mark.parametrize("token", ["0123456789abcde", "0123456789abcdeF", "0123456789abcdef0", "é"])
def test_whoever_has_another_token_starts_nothing(receiver, token):
    answer = receiver.http.post(
        "/", content=notification(HARM), headers={"Authorization": f"Bearer {token}".encode("latin-1")}
    )
    assert (answer.status_code, answer.text) == (401, "the token is missing or wrong\n")
    assert receiver.http.post("/", content=notification(HARM)).status_code == 401
    assert receiver.started == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"{", 400), (b"[]", 400), (b'{"alerts": 1}', 400), (b"[" * 50_000, 400), (b"\xff", 400)],
)
def test_what_is_no_notification_starts_nothing(receiver, body, status):
    assert post(receiver, body).status_code == status
    assert receiver.started == 0


def test_a_body_is_bounded(receiver):
    head = "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n"
    for length in ("1000001", "9" * 5000):
        with socket.create_connection(receiver.server_address[:2], timeout=120) as raw:
            raw.sendall(head.format(TOKEN, length).encode())
            assert b" 413 " in raw.makefile("rb").readline()
    chunks = iter([notification(HARM)])
    assert post(receiver, chunks).status_code == 411
    assert receiver.started == 0


def test_one_that_runs_is_enough_and_one_that_cannot_start_is_asked_for_again(receiver):
    receiver.trouble = BusyError("process 7 has not ended")
    answer = post(receiver, notification(HARM))
    assert (answer.status_code, answer.text) == (200, "not started: process 7 has not ended\n")
    receiver.trouble = NotStartedError("the API server\nis gone")
    answer = post(receiver, notification(HARM))
    assert (answer.status_code, answer.text) == (503, "not started: the API server is gone\n")


def test_the_probe_has_a_path_of_its_own(receiver):
    assert receiver.http.get("/livez").status_code == 200
    assert receiver.http.get("/").status_code == 404


def test_a_command_runs_once_at_a_time(tmp_path):
    go = tmp_path / "go"
    wait = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)"
    command = Command([sys.executable, "-c", wait])
    assert command().startswith("process ")
    with pytest.raises(BusyError, match=r"process \d+ has not ended"):
        command()
    go.touch()
    command._process.wait()
    assert command().startswith("process ")
    command._process.wait()


def test_a_command_that_does_not_exist_is_not_started():
    with pytest.raises(NotStartedError, match="No such file"):
        Command(["/nowhere/dvc"])()


class Api(http.server.BaseHTTPRequestHandler):
    """As much of the API server, and of GitHub, as is asked for: real HTTP, and a list of what came."""

    def do_GET(self):
        self.answer(200, self.server.objects.get(self.path))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.created.append((self.path, body))
        if self.path.endswith("/dispatches"):
            return self.answer(204, None)
        return self.answer(
            201, body | {"metadata": body["metadata"] | {"name": body["metadata"]["generateName"] + "x"}}
        )

    def answer(self, status, found):
        if found is None and status == 200:
            status, found = 404, {"message": "not found"}
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            status, found = 403, {"message": "forbidden"}
        data = b"" if found is None else json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


JOBS = "/apis/batch/v1/namespaces/neocog-platform/jobs"
LISTED = f"{JOBS}?labelSelector=app.kubernetes.io/name%3Dtraining,app.kubernetes.io/part-of%3Dneocog"


@pytest.fixture
def api(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    (tmp_path / "token").write_text("of-the-account\n")
    server.account, server.token, server.created = tmp_path, "of-the-account", []
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    cron = CRON | {"metadata": CRON["metadata"] | {"uid": "1234"}}
    server.objects = {JOBS.replace("/jobs", "/cronjobs/retrain"): cron, LISTED: {"items": []}}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def job(api):
    return Job("neocog-platform/retrain", server=api.address, account=api.account)


def test_the_job_is_what_kubectl_would_make_of_the_cronjob(api):
    import kubernetes_validate

    assert job(api)() == "Job retrain-alert-x"
    [(path, made)] = api.created
    assert path == JOBS
    assert made["spec"] == CRON["spec"]["jobTemplate"]["spec"]
    assert made["metadata"]["labels"] == CRON["spec"]["jobTemplate"]["metadata"]["labels"]
    assert made["metadata"]["annotations"] == {"cronjob.kubernetes.io/instantiate": "manual"}
    [owner] = made["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "batch/v1", "kind": "CronJob", "name": "retrain", "uid": "1234", "controller": True}
    kubernetes_validate.validate(made, "1.36", strict=True)


def test_no_job_while_one_has_not_ended(api):
    ended = [
        {"metadata": {"name": k}, "status": {"conditions": [{"type": k, "status": "True"}]}}
        for k in ("Complete", "Failed")
    ]
    suspended = {"metadata": {"name": "s"}, "status": {"conditions": [{"type": "Suspended", "status": "True"}]}}
    api.objects[LISTED] = {"items": [*ended, suspended]}
    with pytest.raises(BusyError, match="Job s has not ended"):
        job(api)()
    api.objects[LISTED] = {"items": [*ended, {"metadata": {"name": "new"}}]}
    with pytest.raises(BusyError, match="Job new has not ended"):
        job(api)()
    assert not api.created
    api.objects[LISTED] = {"items": ended}
    job(api)()
    assert len(api.created) == 1


def test_a_refusal_of_the_api_server_is_told(api):
    api.token = "another"
    with pytest.raises(NotStartedError, match=r"answers 403: .*forbidden"):
        job(api)()
    (api.account / "token").unlink()
    with pytest.raises(NotStartedError, match="No such file"):
        job(api)()


def test_a_workflow_is_dispatched_on_main(api):
    Workflow("someone/neocog/retrain.yml", server=api.address, token="of-the-account")()
    assert api.created == [("/repos/someone/neocog/actions/workflows/retrain.yml/dispatches", {"ref": "main"})]
    assert "workflow_dispatch" in (REPOSITORY / ".github" / "workflows" / "retrain.yml").read_text()


def test_an_api_that_is_gone_is_told():
    with pytest.raises(NotStartedError, match="refused"):
        Workflow("someone/neocog/retrain.yml", server="http://127.0.0.1:1", token="t")()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--", "true"], "retrain: the token in {token} has 5 characters; at least 16 are needed"),
        ([], "one of --job, --workflow and a command is needed"),
        (["--job", "a/b", "--", "true"], "one of --job, --workflow and a command is needed"),
        (["--job", "retrain"], "retrain does not have 2 parts with / between them"),
        (["--workflow", "a//c"], "a//c does not have 3 parts with / between them"),
    ],
)
@pytest.mark.slow
def test_a_mistake_on_the_command_line_is_one_line(tmp_path, arguments, said):
    token = tmp_path / "token"
    token.write_text("short")
    command = [sys.executable, "-m", "deploy.monitoring.retrain", "--token", token, *arguments]
    ran = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert ran.returncode != 0
    assert said.format(token=token) in ran.stderr.splitlines()[-1]


def test_only_what_fires_with_the_label_is_wanted():
    assert wants_retraining(notification("x", HARM | {"status": "resolved"}, HARM))
    with pytest.raises(ValueError, match="no list of alerts"):
        wants_retraining(b"{}")
