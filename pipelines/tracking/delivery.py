"""Sends one event to MLflow: a method for each kind of event. Sending an event twice does no harm."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

from pipelines.tracking import registry, server
from pipelines.tracking.server import UnknownRun, Unreachable

RUN_TAG: Final = "neocog.run"


@dataclass(frozen=True)
class Sent:
    """How much of a run a server has."""

    uri: str | None = None
    events: int = 0
    run_id: str | None = None
    model_version: str | None = None


@dataclass
class Delivery:
    """One event on its way. The arguments of a method are the fields of the event."""

    client: mlflow.MlflowClient
    folder: Path  # of the run
    sent: Sent  # the methods update it
    time: int  # of the event, in ms since 1970

    @property
    def run_id(self) -> str:
        if self.sent.run_id is None:
            raise UnknownRun("the run was never started there")
        return self.sent.run_id

    def start(self, tags: dict[str, str], params: dict[str, str]) -> None:
        experiment = self.client.get_experiment_by_name(server.NAME)
        experiment_id = experiment.experiment_id if experiment else self.client.create_experiment(server.NAME)
        key = tags[RUN_TAG]
        # The run exists already if an earlier attempt stopped between the server's answer and our note of it.
        runs = self.client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{key}'", max_results=1)
        run = runs[0] if runs else self.client.create_run(experiment_id, self.time, tags, run_name=key)
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
        version = registry.register(self.client, self.run_id, self.folder / bundle, tags)
        registry.set_alias(self.client, registry.CHALLENGER, version, self.time)
        self.sent = replace(self.sent, model_version=version)

    def alias(self, alias: str) -> None:
        version = self.sent.model_version or registry.latest_version(self.client, self.run_id)
        if version is None:
            raise Unreachable(f"run {self.run_id} has no model registered there")
        registry.set_alias(self.client, alias, version, self.time)

    def finish(self, status: str) -> None:
        self.client.set_terminated(self.run_id, status, self.time)
