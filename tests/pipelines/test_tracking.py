"""Tracking with a real MLflow server that is up, down, killed during a run, and up again."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid

import pytest
import yaml
from mlflow import MlflowClient

from model import bundle
from pipelines import ingest, paths, tracking
from pipelines.artefacts import Prepared
from pipelines.labelled import Feedback
from pipelines.labels import labels
from pipelines.prepare import PrepareParams, prepare, split
from pipelines.stage import StageError
from pipelines.synthesize import SynthesizeParams, synthesize
from pipelines.tracking import Run, Unreachable
from pipelines.tracking.__main__ import sync
from tests.bundles import make_bundle
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # MLflow's own


class Server:
    """`mlflow server` on a fixed port, so that it can be killed and started again with its data."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        command = f"""mlflow server --host 127.0.0.1 --port {self.port} --workers 1
            --backend-store-uri sqlite:///{self.folder}/server.db --artifacts-destination {self.folder}/artifacts"""
        log = (self.folder / "server.log").open("a")
        env = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "MLFLOW"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command.split()], env=env, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        for _ in range(1800):  # three minutes, for a busy machine
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=1).close()
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.1)
            else:
                return
        pytest.fail("mlflow server did not start: " + (self.folder / "server.log").read_text())

    def kill(self):
        """Kills the server and its children at once, like a crash."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


class KillingProxy:
    """A proxy of a server. It kills the server when the second report of the loss passes."""

    def __init__(self, server):
        self._server, self._reports = server, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    @staticmethod
    def _start(task, *arguments):
        threading.Thread(target=task, args=arguments, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    behind = socket.create_connection(("127.0.0.1", self._server.port))
                except OSError:
                    client.close()
                    continue
                self._start(self._pass_on, client, behind, self._look)
                self._start(self._pass_on, behind, client, lambda _: None)

    def _pass_on(self, source, target, look):
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65_536):
                look(data)
                target.sendall(data)

    def _look(self, data):
        self._reports += b'"loss"' in data
        if self._reports == 2:
            self._reports += 1  # once
            self._server.kill()

    def close(self):
        self._listener.close()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("mlflow"))
    yield server
    server.kill()


@pytest.fixture
def server(shared_server, monkeypatch):
    """A running server, with an experiment and a registered model of the test's own."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", shared_server.uri)
    monkeypatch.setattr("pipelines.tracking.server.NAME", f"neocog-{uuid.uuid4().hex[:8]}")
    if shared_server.process is None:
        shared_server.start()
    return shared_server


@pytest.fixture
def no_server(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{taken.getsockname()[1]}")
        yield  # bound but not listening: connections are refused


@pytest.fixture
def embedded(in_folder, monkeypatch):
    """No server: the default, a database in the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    forget_stores()
    return in_folder / "mlflow.db"


def forget_stores():
    """Closes MLflow's connections. It keeps them for the life of a process, under an address relative to the current
    folder; in the pipeline each stage is a process of its own."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.tracking._model_registry.utils import _get_store_registry
    from mlflow.tracking._tracking_service.utils import _tracking_store_registry

    SqlAlchemyStore._engine_map.clear()
    _tracking_store_registry._get_store_with_resolved_uri.cache_clear()
    _get_store_registry()._get_store_with_resolved_uri.cache_clear()


def record(run, folder, after_metrics=lambda: None):
    """Records what a pipeline records, in the same order."""
    run.dataset("prepared", "data/prepared.npz", "d" * 36, {"rows": {"train": 3}})
    for step in (1, 2, 3):
        run.metrics({"loss": 1 / step}, step=step)
    after_metrics()
    run.metrics({"test.accuracy": 0.99})
    (folder / "report.txt").write_text("fine")
    run.artifact(folder / "report.txt")
    make_bundle(folder / "bundle")
    run.register(folder / "bundle", {"sha256": "abc"})
    run.set_champion()


def start():
    return Run.start({"git.revision": "1234", "git.dirty": "false"}, {"train.seed": 0, "train.device": "auto"})


def assert_whole(run, uri):
    """Checks that MLflow has everything that `record` recorded, once."""
    client = MlflowClient(uri)
    found = client.get_run(run.sent.run_id)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"train.seed": "0", "train.device": "auto"}
    assert found.data.metrics == {"loss": 1 / 3, "test.accuracy": 0.99}
    assert found.data.tags["git.revision"] == "1234"
    assert found.data.tags[tracking.delivery.RUN_TAG] == run.key
    assert [(m.step, m.value) for m in client.get_metric_history(run.sent.run_id, "loss")] == [
        (1, 1),
        (2, 0.5),
        (3, 1 / 3),
    ]
    assert [i.dataset.name for i in found.inputs.dataset_inputs] == ["prepared"]
    names = {file.path for file in client.list_artifacts(run.sent.run_id)}
    assert {"report.txt", "bundles"} <= names
    model = client.get_registered_model(tracking.server.NAME)
    assert {alias: str(version) for alias, version in model.aliases.items()} == {"challenger": "1", "champion": "1"}
    version = client.get_model_version(tracking.server.NAME, "1")
    assert version.run_id == run.sent.run_id
    assert version.tags["sha256"] == "abc"
    assert len(client.search_runs([found.info.experiment_id])) == 1


def test_a_run_reaches_the_server_as_it_happens(in_folder, server, capfd):
    with start() as run:
        record(run, in_folder)
    assert run.pending == 0
    assert tracking.waiting() == []
    assert_whole(run, server.uri)
    assert "warning" not in capfd.readouterr().err
    found = tracking.champion(in_folder / "download")
    assert bundle.read(found.bundle) == bundle.read(in_folder / "bundle")


def test_without_a_server_the_default_is_a_database_beside_the_project(in_folder, embedded):
    with start() as run:
        record(run, in_folder)
    assert embedded.exists()
    assert_whole(run, tracking.server.EMBEDDED)


def test_the_model_has_a_signature_and_an_example(in_folder, server):
    import mlflow

    with start() as run:
        record(run, in_folder)
    mlflow.set_tracking_uri(server.uri)
    info = mlflow.models.get_model_info(f"models:/{tracking.server.NAME}@champion")
    assert info.signature.inputs.to_dict()[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, 1, 28, 28)}
    assert info.signature.outputs.to_dict()[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, 10)}
    assert info.saved_input_example_info is not None


def test_a_server_that_is_down_causes_one_warning_and_gets_the_run_later(in_folder, server, capfd):
    server.kill()
    with start() as run:
        record(run, in_folder)
    assert run.identity() == {"run": run.key, "mlflow_run_id": None}
    warnings = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert f"this run is recorded in runs/{run.key}, `make sync` sends it later" in warnings[0]

    server.start()
    sync(tracking.waiting())
    assert f"sync: {run.key}: 10 events sent to {server.uri}, MLflow run {run.sent.run_id}" in capfd.readouterr().out
    assert_whole(run, server.uri)


def test_a_server_killed_during_a_run_gets_the_rest_later(in_folder, server):
    with start() as run:
        record(run, in_folder, after_metrics=server.kill)
    assert run.sent.events == 5
    assert run.pending == 5
    server.start()
    sync(tracking.waiting())
    assert_whole(run, server.uri)


def test_a_lost_answer_creates_no_second_run(in_folder, server):
    with start() as run:
        (run.folder / "sent.json").unlink()  # as if we had died after the server stored the run
        record(run, in_folder)
    assert_whole(run, server.uri)


def test_a_lost_answer_to_a_registration_creates_no_second_version(in_folder, server):
    with start() as run:
        record(run, in_folder)
        sent = json.loads((run.folder / "sent.json").read_text())
        (run.folder / "sent.json").write_text(json.dumps(sent | {"events": 7, "model_version": None}))
    assert_whole(run, server.uri)
    assert len(MlflowClient(server.uri).search_model_versions(f"name = '{tracking.server.NAME}'")) == 1


def test_another_server_gets_the_whole_run(in_folder, server, embedded, monkeypatch):
    with start() as run:
        first = run.sent.run_id
        record(run, in_folder, after_metrics=lambda: monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri))
    assert run.sent.run_id != first
    assert_whole(run, server.uri)


def test_a_run_that_one_server_has_does_not_wait_for_another(in_folder, server, embedded, monkeypatch):
    with start() as run:
        pass
    assert run.pending == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert run.pending == 2
    assert tracking.waiting() == []


def test_a_champion_without_a_bundle_cannot_be_used(in_folder, server):
    with start() as run:
        record(run, in_folder)
    MlflowClient(server.uri).delete_model_version_tag(tracking.server.NAME, "1", tracking.registry.BUNDLE_TAG)
    with pytest.raises(Unreachable, match=r"version 1 of neocog-\w+, the champion in .*, has no bundle"):
        tracking.champion(in_folder)


def test_a_run_that_was_deleted_there_is_sent_again(in_folder, embedded):
    with start() as run:
        run.metrics({"loss": 1.0}, step=1)
        embedded.unlink()
        forget_stores()
        run.metrics({"loss": 0.5}, step=2)
    history = MlflowClient(tracking.server.EMBEDDED).get_metric_history(run.sent.run_id, "loss")
    assert [metric.value for metric in history] == [1.0, 0.5]


def test_the_champions_bundle_is_the_one_that_was_promoted(in_folder, server):
    with start() as run:
        make_bundle(in_folder / "bundle", temperature=1.0)
        run.register(in_folder / "bundle", {})
        run.set_champion()
        make_bundle(in_folder / "bundle", temperature=7.0)
        run.register(in_folder / "bundle", {})
    assert bundle.read(tracking.champion(in_folder / "download").bundle).temperature == 1.0


def test_the_last_promotion_wins_in_any_order_of_arrival(in_folder, server):
    server.kill()
    make_bundle(in_folder / "bundle")
    runs = []
    for _ in range(2):
        with start() as run:
            run.register(in_folder / "bundle", {})
        runs.append(run)
    runs[1].set_champion()
    time.sleep(0.01)
    runs[0].set_champion()
    server.start()
    sync(tracking.waiting())
    client = MlflowClient(server.uri)
    champion = client.get_model_version_by_alias(tracking.server.NAME, "champion")
    challenger = client.get_model_version_by_alias(tracking.server.NAME, "challenger")
    assert [champion.run_id, challenger.run_id] == [runs[0].sent.run_id, runs[1].sent.run_id]


def test_a_partial_line_is_ignored(in_folder, no_server):
    with start() as run:
        with (run.folder / "events.jsonl").open("a") as file:
            file.write('{"do": "metr')  # the process was killed here
        assert [waiting.key for waiting in tracking.waiting()] == [run.key]
        run.metrics({"loss": 1.0})
    assert [event["do"] for event in run._events()] == ["start", "metrics", "finish"]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("http://ada:s3cret@127.0.0.1:1", "the tracking server at http://127.0.0.1:1 cannot be used"),
        ("postgresql+nodriver://ada:s3cret@127.0.0.1/mlflow", "://127.0.0.1/mlflow cannot be used"),
        ("nonsense://x", "the tracking server at nonsense://x cannot be used"),
    ],
)
def test_a_wrong_address_causes_a_warning_without_its_password(in_folder, monkeypatch, capfd, uri, message):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with start():
        pass
    err = capfd.readouterr().err
    assert message in err
    assert "s3cret" not in err


def test_a_later_stage_continues_the_run_even_on_another_machine(in_folder, server):
    with start() as run:
        pass
    paths.OUT.mkdir()
    paths.RUN.write_text(json.dumps(run.saved()))
    run.folder.rename(in_folder / "the-other-machine")
    record(Run.resume(), in_folder)
    again = Run.resume()
    again.set_champion()
    assert_whole(again, server.uri)


def test_a_failed_run_has_that_status(in_folder, server):
    with pytest.raises(RuntimeError), start() as run:
        raise RuntimeError
    assert MlflowClient(server.uri).get_run(run.sent.run_id).info.status == "FAILED"


def test_a_registry_without_a_champion_has_none(in_folder, server):
    assert tracking.champion(in_folder) is None


def test_a_registry_that_is_down_is_unreachable(in_folder, no_server):
    with pytest.raises(Unreachable, match=r"the tracking server at http://127\.0\.0\.1:\d+ cannot be used"):
        tracking.champion(in_folder)


def test_sync_while_the_server_is_down_prints_one_line(in_folder, no_server):
    with start():
        pass
    ran = subprocess.run([sys.executable, "-m", "pipelines.tracking"], capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith("tracking: the tracking server at http://127.0.0.1:")
    assert "1 runs wait in runs/" in ran.stderr


def test_sync_with_nothing_to_send_says_so(in_folder, no_server, capsys):
    sync(tracking.waiting())
    assert capsys.readouterr().out.startswith("sync: nothing waits")


def test_a_run_that_cannot_be_sent_does_not_stop_others(in_folder, server):
    server.kill()
    with start() as bad, start() as good:
        bad.set_champion()  # of a model that was never registered
    server.start()
    with pytest.raises(StageError, match=r"has no model registered there.*; 1 runs wait in runs/"):
        sync(tracking.waiting())
    assert good.pending == 0


def test_training_survives_the_death_of_the_server(in_folder, server, monkeypatch):
    """The real stage, as a process. The server receives the first report and dies at the second."""
    proxy = KillingProxy(server)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
    values = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    values["train"] |= {"images_seen": 30_000, "passes": 0, "reports": 30, "width": 2}
    values["synthesize"] |= {"digits": 500, "outliers": 30, "validation": 50}
    (in_folder / "params.yaml").write_text(yaml.safe_dump(values))
    source = ingest.digits()
    params = PrepareParams.load()
    prepare(source, split(source, test=params.test, validation=params.validation, seed=params.seed)).save(
        paths.PREPARED
    )
    synthesize(SynthesizeParams.load(), source.classes).save(paths.SYNTHETIC)
    labels(Feedback.empty(source.classes), Prepared.load(paths.PREPARED), 100).save(paths.LABELS)
    train = subprocess.run([sys.executable, "-m", "pipelines.train"], capture_output=True, text=True)
    err = train.stderr
    assert train.returncode == 0, err
    assert server.process is None
    assert err.count("warning: the tracking server at") == 1
    [run] = tracking.waiting()

    server.start()
    sync([run])
    client = MlflowClient(server.uri)
    epochs = client.get_metric_history(run.sent.run_id, "validation_accuracy")
    assert [metric.step for metric in epochs] == list(range(1, len(epochs) + 1))
    assert len(epochs) == len(paths.TRAINING.read_text().splitlines()) - 1
    assert client.get_run(run.sent.run_id).info.status == "FINISHED"
    assert Run.resume().identity() == {"run": run.key, "mlflow_run_id": run.sent.run_id}
    proxy.close()
