"""MLflow, without depending on it: every run is recorded in `runs/` first and sent from there.

A run is a folder with `events.jsonl` (what happened, in order), `artifacts/` (copies of the files that go with it) and
`sent.json` (how far MLflow has it, and under which id). Events are sent as they happen. When the tracking server does
not answer, they are only recorded, one warning says so, and `make sync` sends the rest, to the same run.
"""

import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from pipelines import paths, stage
from pipelines.stage import StageError

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME: Final = "neocog"  # the experiment and the registered model
EMBEDDED: Final = "sqlite:///mlflow.db"
CHALLENGER: Final = "challenger"
CHAMPION: Final = "champion"
RUN_TAG: Final = "neocog.run"

# A server that is down has to be noticed within seconds; MLflow's own defaults try for several minutes.
PATIENCE: Final = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
}


class Unreachable(Exception):
    """The tracking server does not answer, or not as one does."""


def uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED


@dataclass(frozen=True)
class Sent:
    """How far MLflow has a run."""

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
        key = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"
        run = cls(key)
        (run.folder / "artifacts").mkdir(parents=True)
        run._record("start", tags={**tags, RUN_TAG: key}, params={name: str(value) for name, value in params.items()})
        return run

    @classmethod
    def resume(cls, file: Path = paths.RUN) -> Self:
        """The run that `identity` was written of. What it never recorded here (another machine's) starts a new record."""
        known = json.loads(file.read_text())
        run = cls(known["run"])
        if not run.folder.exists():
            (run.folder / "artifacts").mkdir(parents=True)
            run._keep(Sent(run_id=known["mlflow_run_id"]))
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        status = "FINISHED" if kind is None else "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
        self._record("finish", status=status)

    def identity(self) -> dict[str, str | None]:
        """The run's own key, and its id in MLflow, unless no server has answered yet."""
        return {"run": self.key, "mlflow_run_id": self.sent.run_id}

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self._record("metrics", values=dict(values), step=step)

    def dataset(self, name: str, source: str, digest: str, profile: Mapping[str, object]) -> None:
        self._record("dataset", name=name, source=source, digest=digest, profile=dict(profile))

    def artifact(self, path: Path, under: str = "") -> None:
        """A file, or a folder with all that is in it; it is copied, so it may change afterwards."""
        self._record("artifact", path=self._copied(path), under=under)

    def register(self, bundle: Path, tags: Mapping[str, str]) -> None:
        """The bundle's model as a new version of the registered model, with the alias `challenger`."""
        self._record("register", bundle=self._copied(bundle), tags=dict(tags))

    def crown(self) -> None:
        """The alias `champion` moves to this run's model."""
        self._record("alias", alias=CHAMPION)

    @property
    def sent(self) -> Sent:
        file = self.folder / "sent.json"
        return Sent(**json.loads(file.read_text())) if file.exists() else Sent()

    @property
    def pending(self) -> int:
        return len(self._events()) - self.sent.events

    def send(self) -> None:
        """Sends what is pending, in order. Raises `Unreachable`, with what was sent until then noted."""
        sent = self.sent
        for event in self._events()[sent.events :]:
            with _reaching() as client:
                sent = _SEND[event["do"]](client, self, sent, event)
            sent = Sent(sent.events + 1, sent.run_id, sent.model_version)
            self._keep(sent)

    def _record(self, do: str, **what: object) -> None:
        event = json.dumps({"do": do, "time": round(time.time() * 1000), **what})
        with (self.folder / "events.jsonl").open("a") as file:
            file.write(event + "\n")
        if self._offline:
            return
        try:
            self.send()
        except Unreachable as error:
            self._offline = True
            print(f"warning: {error}; this run is recorded in {self.folder}, `make sync` sends it later", file=sys.stderr)

    def _copied(self, path: Path) -> str:
        copy = self.folder / "artifacts" / str(len(self._events())) / path.name
        if path.is_dir():
            shutil.copytree(path, copy)
        else:
            copy.parent.mkdir(parents=True)
            shutil.copy2(path, copy)
        return str(copy.relative_to(self.folder))

    def _events(self) -> list[dict[str, Any]]:
        file = self.folder / "events.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def _keep(self, sent: Sent) -> None:
        stage.write_json(self.folder / "sent.json", asdict(sent))


@dataclass(frozen=True)
class Champion:
    """The registered model that the alias `champion` names."""

    version: str
    run: str
    bundle: Path  # a copy of it


def champion(into: Path) -> Champion | None:
    """The registry's champion, its bundle downloaded below `into`; None when it has none. Raises `Unreachable`."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    with _reaching() as client:
        try:
            version = client.get_model_version_by_alias(NAME, CHAMPION)
        except MlflowException as error:
            absent = ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)
            if error.error_code == absent or "not found" in str(error):  # an unknown alias is INVALID_PARAMETER_VALUE
                return None
            raise
        run = client.get_run(version.run_id)
        bundle = client.download_artifacts(version.run_id, "bundle", str(into))
    return Champion(version.version, run.data.tags.get(RUN_TAG, version.run_id), Path(bundle))


def waiting() -> list[Run]:
    """The runs recorded here that MLflow doesn't have whole, oldest first."""
    folders = sorted(file.parent for file in paths.RUNS.glob("*/events.jsonl"))
    return [run for run in map(lambda folder: Run(folder.name), folders) if run.pending]


@contextmanager
def _reaching():  # type: ignore[no-untyped-def]  # yields an MlflowClient; typing it would import MLflow, 2 s
    """A client of the tracking server; what fails because of the server is raised as `Unreachable`."""
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)
    import mlflow
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(uri())
    try:
        yield mlflow.MlflowClient()
    except (MlflowException, requests.RequestException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        reason = str(error).splitlines()[0][:160]
        raise Unreachable(f"the tracking server at {uri()} does not answer as one ({reason})") from error


def _start(client: "MlflowClient", run: Run, sent: Sent, event: Mapping[str, Any]) -> Sent:
    from mlflow.entities import Param

    experiment = client.get_experiment_by_name(NAME)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(NAME)
    found = client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run.key}'", max_results=1)
    if found:  # an earlier attempt broke off between the server's answer and our note of it
        run_id = found[0].info.run_id
    else:
        run_id = client.create_run(experiment_id, event["time"], event["tags"], run_name=run.key).info.run_id
    client.log_batch(run_id, params=[Param(name, value) for name, value in event["params"].items()])
    return Sent(sent.events, run_id)


def _metrics(client: "MlflowClient", run: Run, sent: Sent, event: Mapping[str, Any]) -> Sent:
    from mlflow.entities import Metric

    metrics = [Metric(name, value, event["time"], event["step"]) for name, value in event["values"].items()]
    client.log_batch(_run_id(sent), metrics=metrics)
    return sent


def _dataset(client: "MlflowClient", run: Run, sent: Sent, event: Mapping[str, Any]) -> Sent:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    source = json.dumps({"uri": event["source"]})
    dataset = Dataset(event["name"], event["digest"], "local", source, profile=json.dumps(event["profile"]))
    client.log_inputs(_run_id(sent), [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
    return sent


def _artifact(client: "MlflowClient", run: Run, sent: Sent, event: Mapping[str, Any]) -> Sent:
    path = run.folder / event["path"]
    if path.is_dir():
        client.log_artifacts(_run_id(sent), str(path), event["under"] or path.name)
    else:
        client.log_artifact(_run_id(sent), str(path), event["under"])
    return sent


def _register(client: "MlflowClient", run: Run, sent: Sent, event: Mapping[str, Any]) -> Sent:
    import mlflow.onnx
    import onnx
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    run_id, bundle = _run_id(sent), run.folder / event["bundle"]
    client.log_artifacts(run_id, str(bundle), "bundle")
    with np.load(bundle / "golden.npz") as golden:
        example = golden["pixels"][:1, None].astype(np.float32) / np.float32(255)
    float32 = np.dtype(np.float32)
    signature = ModelSignature(
        Schema([TensorSpec(float32, (-1, 1, 28, 28), "image")]), Schema([TensorSpec(float32, (-1, 10), "prob")])
    )
    with mlflow.start_run(run_id):
        info = mlflow.onnx.log_model(
            onnx.load(bundle / "model.onnx"),
            name="model",
            registered_model_name=NAME,
            signature=signature,
            input_example={"image": example},
            pip_requirements=["onnxruntime", "numpy"],  # given, since finding them out starts another process
            save_as_external_data=False,
        )
    version = str(info.registered_model_version)
    for name, value in event["tags"].items():
        client.set_model_version_tag(NAME, version, name, value)
    client.set_registered_model_alias(NAME, CHALLENGER, version)
    return Sent(sent.events, run_id, version)


def _alias(client: "MlflowClient", run: Run, sent: Sent, event: Mapping[str, Any]) -> Sent:
    version = sent.model_version
    if version is None:  # registered on another machine
        versions = client.search_model_versions(f"name = '{NAME}' and run_id = '{_run_id(sent)}'")
        version = max((str(known.version) for known in versions), key=int)
    client.set_registered_model_alias(NAME, event["alias"], version)
    return Sent(sent.events, sent.run_id, version)


def _finish(client: "MlflowClient", run: Run, sent: Sent, event: Mapping[str, Any]) -> Sent:
    client.set_terminated(_run_id(sent), event["status"], event["time"])
    return sent


_SEND: Final[Mapping[str, Callable[..., Sent]]] = {
    "start": _start,
    "metrics": _metrics,
    "dataset": _dataset,
    "artifact": _artifact,
    "register": _register,
    "alias": _alias,
    "finish": _finish,
}


def _run_id(sent: Sent) -> str:
    if sent.run_id is None:
        raise Unreachable("the run was never started there")
    return sent.run_id


def sync(runs: Sequence[Run]) -> None:
    """`make sync`: sends every run that waits. Raises `StageError` when the server does not answer."""
    for run in runs:
        events = run.pending
        try:
            run.send()
        except Unreachable as error:
            raise StageError(f"{error}; {len(waiting())} runs wait in {paths.RUNS}/") from None
        print(f"sync: {run.key}: {events} events sent to {uri()}, MLflow run {run.sent.run_id}")
    if not runs:
        print(f"sync: nothing waits, {uri()} has every run")


def main() -> None:
    sync(waiting())


if __name__ == "__main__":
    stage.run(main)
