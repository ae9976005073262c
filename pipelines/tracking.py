"""MLflow, without depending on it: every run is recorded in `runs/` first and sent from there.

A run is a folder with `events.jsonl` (what happened, in order), `artifacts/` (copies of the files that go with it) and
`sent.json` (how far which server has it, and under which id). Events are sent as they happen. When the tracking server
does not answer, they are only recorded, one warning says so, and `make sync` sends the rest, to the same run. A server
that doesn't know the run, another one or the same one emptied, gets all of it.
"""

import json
import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

import mlflow
import mlflow.onnx
import numpy as np
import onnx
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.types import Schema, TensorSpec
from sqlalchemy.exc import SQLAlchemyError

from model.bundle import MANIFEST
from model.hashing import sha256
from pipelines import paths, stage
from pipelines.stage import StageError

NAME: Final = "neocog"  # the experiment and the registered model
EMBEDDED: Final = "sqlite:///mlflow.db"
CHALLENGER: Final = "challenger"
CHAMPION: Final = "champion"
RUN_TAG: Final = "neocog.run"
BUNDLE_TAG: Final = "neocog.bundle"  # of a model version: where among its run's artifacts its bundle lies

# MLflow's settings, unless the environment has its own. A server that is down has to be noticed within seconds, where
# MLflow would try for minutes; and its notes would tear the progress bars.
SETTINGS: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Unreachable(Exception):
    """What should have gone to the tracking server, or come from it, did not; the message says why."""


class Unknown(Unreachable):
    """The server answers, and doesn't know the run."""


def uri() -> str:
    """The tracking server in use."""
    return os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED


def shown(address: str) -> str:
    """`address` without the password in it, for people and logs."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if "@" in parts.netloc else address


@dataclass(frozen=True)
class Sent:
    """How far a server has a run."""

    uri: str | None = None
    events: int = 0
    run_id: str | None = None
    model_version: str | None = None


class Run:
    """One execution of the pipeline. Made by `start`, found again in later stages by `resume`."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.folder = paths.RUNS / key
        self._offline = False

    @classmethod
    def start(cls, tags: Mapping[str, str], params: Mapping[str, object]) -> Self:
        """A new run, under a key of its own that is also a tag of it in MLflow."""
        key = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"
        run = cls(key)
        run.folder.mkdir(parents=True)
        run._record("start", tags={**tags, RUN_TAG: key}, params={name: str(value) for name, value in params.items()})
        return run

    @classmethod
    def resume(cls, file: Path = paths.RUN) -> Self:
        """The run that was `saved` to `file`, gone on with, even if it was begun on another machine."""
        known = json.loads(file.read_text())
        run = cls(known["run"])
        if not run.folder.exists():
            run.folder.mkdir(parents=True)
            (run.folder / "events.jsonl").write_text(json.dumps(known["start"]) + "\n")
            if known["mlflow_run_id"]:
                run._keep(Sent(known["server"], 1, known["mlflow_run_id"]))
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        status = "FINISHED" if kind is None else "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
        self._record("finish", status=status)

    def identity(self) -> dict[str, str | None]:
        """The run's own key, and its id in MLflow, unless no server has answered yet."""
        return {"run": self.key, "mlflow_run_id": self.sent.run_id}

    def saved(self) -> dict[str, Any]:
        """What `resume` needs: who the run is, which server has it, and how it began."""
        server = shown(self.sent.uri) if self.sent.uri else None
        return {**self.identity(), "server": server, "start": self._events()[0]}

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Numbers of the run, at a `step` for those that have a course."""
        self._record("metrics", values=dict(values), step=step)

    def dataset(self, name: str, source: str, digest: str, profile: Mapping[str, object]) -> None:
        """The data the run was trained on; MLflow takes a `digest` of at most 36 characters."""
        self._record("dataset", name=name, source=source, digest=digest, profile=dict(profile))

    def artifact(self, path: Path) -> None:
        """A file, or a folder with all that is in it; it is copied, so it may change afterwards."""
        self._record("artifact", path=self._copied(path))

    def register(self, bundle: Path, tags: Mapping[str, str]) -> None:
        """The bundle's model as a new version of the registered model, with the alias `challenger`."""
        self._record("register", bundle=self._copied(bundle), tags=dict(tags))

    def crown(self) -> None:
        """The alias `champion` moves to this run's model."""
        self._record("alias", alias=CHAMPION)

    @property
    def sent(self) -> Sent:
        """How far the server in use has this run."""
        return Sent() if self.elsewhere else self._noted

    @property
    def elsewhere(self) -> bool:
        """Whether it was another server that this run went to."""
        return self._noted.uri not in (None, uri(), shown(uri()))

    @property
    def _noted(self) -> Sent:
        file = self.folder / "sent.json"
        return Sent(**json.loads(file.read_text())) if file.exists() else Sent()

    @property
    def pending(self) -> int:
        """How many events the server in use doesn't have."""
        return len(self._events()) - self.sent.events

    def send(self) -> None:
        """Sends what is pending, in order. Raises `Unreachable`, with what was sent until then noted."""
        with FileLock(self.folder / ".lock"):  # `make sync` beside a running pipeline
            try:
                self._send()
            except Unknown:  # deleted there, or the server was emptied
                self._keep(Sent())
                self._send()

    def _send(self) -> None:
        for event in self._events()[self.sent.events :]:
            with _reaching() as client:
                delivery = _Delivery(client, self.folder, self.sent, event.pop("time"))
                getattr(delivery, event.pop("do"))(**event)
            self._keep(replace(delivery.sent, uri=uri(), events=delivery.sent.events + 1))

    def _record(self, do: str, **what: object) -> None:
        event = json.dumps({"do": do, "time": round(time.time() * 1000), **what})
        with (self.folder / "events.jsonl").open("ab+") as file:
            file.seek(0)
            whole = file.read().rpartition(b"\n")
            file.truncate(len(whole[0]) + len(whole[1]))  # without the half line of a process that was killed
            file.write(event.encode() + b"\n")
        if self._offline:
            return
        try:
            self.send()
        except Unreachable as error:
            self._offline = True
            notice = f"this run is recorded in {self.folder}, `make sync` sends it later"
            print(f"warning: {error}; {notice}", file=sys.stderr)

    def _copied(self, path: Path) -> str:
        copy = self.folder / "artifacts" / uuid.uuid4().hex[:8] / path.name
        copy.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, copy)
        else:
            shutil.copy2(path, copy)
        return str(copy.relative_to(self.folder))

    def _events(self) -> list[dict[str, Any]]:
        file = self.folder / "events.jsonl"
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def _keep(self, sent: Sent) -> None:
        stage.write_json(self.folder / "sent.json", asdict(sent))


@dataclass
class _Delivery:
    """Sends one event: a method for each kind, its arguments what was recorded. Sending one twice does no harm."""

    client: mlflow.MlflowClient
    folder: Path
    sent: Sent
    time: int  # of the event, in ms since 1970

    @property
    def run_id(self) -> str:
        if self.sent.run_id is None:
            raise Unknown("the run was never started there")
        return self.sent.run_id

    def start(self, tags: dict[str, str], params: dict[str, str]) -> None:
        experiment = self.client.get_experiment_by_name(NAME)
        experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(NAME)
        key = tags[RUN_TAG]
        found = self.client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{key}'", max_results=1)
        # Found, when an earlier attempt broke off between the server's answer and our note of it.
        run = found[0] if found else self.client.create_run(experiment_id, self.time, tags, run_name=key)
        self.client.log_batch(run.info.run_id, params=[Param(name, value) for name, value in params.items()])
        self.sent = replace(self.sent, run_id=run.info.run_id)

    def metrics(self, values: dict[str, float], step: int) -> None:
        metrics = [Metric(name, value, self.time, step) for name, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def dataset(self, name: str, source: str, digest: str, profile: dict[str, object]) -> None:
        dataset = Dataset(name, digest, "local", json.dumps({"uri": source}), profile=json.dumps(profile))
        context = InputTag("mlflow.data.context", "training")
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, [context])])

    def artifact(self, path: str) -> None:
        file = self.folder / path
        if file.is_dir():
            self.client.log_artifacts(self.run_id, str(file), file.name)
        else:
            self.client.log_artifact(self.run_id, str(file))

    def register(self, bundle: str, tags: dict[str, str]) -> None:
        files = self.folder / bundle
        place = f"bundles/{sha256(files / MANIFEST)[:12]}"
        version = self._version(place) or self._registered(files, place, tags)
        self._point(CHALLENGER, version)
        self.sent = replace(self.sent, model_version=version)

    def _version(self, place: str | None = None) -> str | None:
        """The run's latest registered version; that of the bundle at `place`, where one is given."""
        found = self.client.search_model_versions(f"name = '{NAME}' and run_id = '{self.run_id}'")
        versions = [str(known.version) for known in found if place in (None, known.tags.get(BUNDLE_TAG))]
        return max(versions, key=int, default=None)

    def _registered(self, files: Path, place: str, tags: dict[str, str]) -> str:
        """A new version. It is created with its tags in one call, so that a half-made one is never taken for whole."""
        self.client.log_artifacts(self.run_id, str(files), place)
        with np.load(files / "golden.npz") as golden:
            example = golden["pixels"][:1, None].astype(np.float32) / np.float32(255)
        float32 = np.dtype(np.float32)
        images, prob = TensorSpec(float32, (-1, 1, 28, 28), "image"), TensorSpec(float32, (-1, 10), "prob")
        with mlflow.start_run(self.run_id, log_system_metrics=False):
            info = mlflow.onnx.log_model(
                onnx.load(files / "model.onnx"),
                name="model",
                signature=ModelSignature(Schema([images]), Schema([prob])),
                input_example={"image": example},
                onnx_execution_providers=["CPUExecutionProvider"],
                pip_requirements=["onnxruntime", "numpy"],  # said, since finding them out starts another process
                save_as_external_data=False,
            )
        if not self.client.search_registered_models(f"name = '{NAME}'"):
            self.client.create_registered_model(NAME)
        version = self.client.create_model_version(
            NAME, info.model_uri, self.run_id, {**tags, BUNDLE_TAG: place}, model_id=info.model_id
        )
        return str(version.version)

    def alias(self, alias: str) -> None:
        version = self.sent.model_version or self._version()
        if version is None:
            raise Unreachable(f"run {self.run_id} has no model registered there")
        self._point(alias, version)

    def _point(self, alias: str, version: str) -> None:
        """The alias moves, unless it was moved by something later: runs recorded offline arrive in any order."""
        moved = f"{alias}.moved"
        before = self.client.get_registered_model(NAME).tags.get(moved, "0")
        if self.time >= int(before):
            self.client.set_registered_model_alias(NAME, alias, version)
            self.client.set_registered_model_tag(NAME, moved, str(self.time))

    def finish(self, status: str) -> None:
        self.client.set_terminated(self.run_id, status, self.time)


@dataclass(frozen=True)
class Champion:
    """The registered model that the alias `champion` names."""

    version: str
    bundle: Path  # a copy of it


def champion(into: Path) -> Champion | None:
    """The registry's champion, its bundle downloaded below `into`; None when it has none. Raises `Unreachable`."""
    with _reaching() as client:
        found = client.search_registered_models(f"name = '{NAME}'")
        version = found[0].aliases.get(CHAMPION) if found else None
        if version is None:
            return None
        crowned = client.get_model_version(NAME, version)
        place = crowned.tags.get(BUNDLE_TAG)
        if place is None:
            raise Unreachable(f"version {version} of {NAME}, the champion in {shown(uri())}, has no bundle")
        return Champion(str(version), Path(client.download_artifacts(crowned.run_id, place, str(into))))


def waiting() -> list[Run]:
    """The runs recorded here that no server has, or the one in use not whole, oldest first.

    What another server has isn't waiting: pointing tracking elsewhere doesn't move the past there.
    """
    runs = [Run(file.parent.name) for file in sorted(paths.RUNS.glob("*/events.jsonl"))]
    return [run for run in runs if run.pending and not run.elsewhere]


@contextmanager
def _reaching() -> Iterator[mlflow.MlflowClient]:
    """A client of the tracking server; what fails because of the server is raised as `Unreachable`."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    try:
        mlflow.set_tracking_uri(uri())
        yield mlflow.MlflowClient()
    except (
        MlflowException,
        SQLAlchemyError,
        OSError,
        ImportError,
    ) as error:  # requests' are OSErrors; drivers may lack
        reason = str(error).splitlines()[0].replace(uri(), shown(uri()))[:160]
        code = getattr(error, "error_code", None)
        kind = Unknown if code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST) else Unreachable
        raise kind(f"the tracking server at {shown(uri())} cannot be used ({reason})") from error


def sync(runs: Sequence[Run]) -> None:
    """`make sync`: sends every run that waits. Raises `StageError` at the end when one of them could not be sent."""
    problem = None
    for run in runs:
        events = run.pending
        try:
            run.send()
        except Unreachable as error:
            problem = error
        else:
            print(f"sync: {run.key}: {events} events sent to {shown(uri())}, MLflow run {run.sent.run_id}")
    if problem:
        raise StageError(f"{problem}; {len(waiting())} runs wait in {paths.RUNS}/")
    if not runs:
        print(f"sync: nothing waits, {shown(uri())} has every run")


def main() -> None:
    """Sends what waits."""
    sync(waiting())


if __name__ == "__main__":
    stage.run(main)
