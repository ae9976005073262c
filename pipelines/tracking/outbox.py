"""The outbox: a run is recorded in a folder of `runs/`, and sent to the tracking server from there.

The folder holds `events.jsonl` (every event, in order), `artifacts/` (copies of the files), and `sent.json` (how much
of the run which server has, and under which id). Each event is sent as soon as it is recorded. If the server does not
answer, the rest of the run is only recorded, with one warning; `make sync` sends it later, to the same MLflow run. A
server that does not know the run, because it is another server or was emptied, receives every event.
"""

import json
import shutil
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock

from pipelines import paths, stage
from pipelines.tracking.delivery import RUN_TAG, Delivery, Sent
from pipelines.tracking.registry import CHAMPION
from pipelines.tracking.server import UnknownRun, Unreachable, connected, shown, uri


class Run:
    """One execution of the pipeline. `start` makes it; later stages continue it with `resume`."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.folder = paths.RUNS / key
        self._offline = False

    @classmethod
    def start(cls, tags: Mapping[str, str], params: Mapping[str, object]) -> Self:
        """A new run with a key of its own. The key is also a tag of the run in MLflow."""
        key = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:8]}"
        run = cls(key)
        run.folder.mkdir(parents=True)
        run._record("start", tags={**tags, RUN_TAG: key}, params={name: str(value) for name, value in params.items()})
        return run

    @classmethod
    def resume(cls, file: Path = paths.RUN) -> Self:
        """The run whose `saved()` is in `file`, even if it was started on another machine."""
        saved = json.loads(file.read_text())
        run = cls(saved["run"])
        if not run.folder.exists():
            run.folder.mkdir(parents=True)
            (run.folder / "events.jsonl").write_text(json.dumps(saved["start"]) + "\n")
            if saved["mlflow_run_id"]:
                run._keep(Sent(saved["server"], 1, saved["mlflow_run_id"]))
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        status = "FINISHED" if kind is None else "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
        self._record("finish", status=status)

    def identity(self) -> dict[str, str | None]:
        """The run's key, and its id in MLflow; the id is None until a server has answered."""
        return {"run": self.key, "mlflow_run_id": self.sent.run_id}

    def saved(self) -> dict[str, Any]:
        """What `resume` needs: the run's identity, the server that has it, and its first event."""
        server = shown(self.sent.uri) if self.sent.uri else None
        return {**self.identity(), "server": server, "start": self._events()[0]}

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Metrics of the run; `step` numbers the points of a curve."""
        self._record("metrics", values=dict(values), step=step)

    def dataset(self, name: str, source: str, digest: str, profile: Mapping[str, object]) -> None:
        """The data set that the run trains on. MLflow accepts a `digest` of at most 36 characters."""
        self._record("dataset", name=name, source=source, digest=digest, profile=dict(profile))

    def artifact(self, path: Path) -> None:
        """A file, or a folder with all its files. It is copied, so it may change afterwards."""
        self._record("artifact", path=self._copied(path))

    def register(self, bundle: Path, tags: Mapping[str, str]) -> None:
        """Registers the bundle's model as a new version, with the alias `challenger`."""
        self._record("register", bundle=self._copied(bundle), tags=dict(tags))

    def set_champion(self) -> None:
        """Moves the alias `champion` to this run's model."""
        self._record("alias", alias=CHAMPION)

    @property
    def sent(self) -> Sent:
        """How much of this run the server in use has."""
        return Sent() if self.elsewhere else self._noted

    @property
    def elsewhere(self) -> bool:
        """Whether this run was sent to another server than the one in use."""
        return self._noted.uri not in (None, uri(), shown(uri()))

    @property
    def _noted(self) -> Sent:
        file = self.folder / "sent.json"
        return Sent(**json.loads(file.read_text())) if file.exists() else Sent()

    @property
    def pending(self) -> int:
        """How many events the server in use does not have."""
        return len(self._events()) - self.sent.events

    def send(self) -> None:
        """Sends the pending events in order. Raises `Unreachable`; what was sent before that stays noted."""
        with FileLock(self.folder / ".lock"):  # `make sync` may run beside a running pipeline
            try:
                self._send()
            except UnknownRun:  # somebody deleted the run there, or emptied the server
                self._keep(Sent())
                self._send()

    def _send(self) -> None:
        for event in self._events()[self.sent.events :]:
            with connected() as client:
                delivery = Delivery(client, self.folder, self.sent, event.pop("time"))
                getattr(delivery, event.pop("do"))(**event)
            self._keep(replace(delivery.sent, uri=uri(), events=delivery.sent.events + 1))

    def _record(self, do: str, **fields: object) -> None:
        event = json.dumps({"do": do, "time": round(time.time() * 1000), **fields})
        with (self.folder / "events.jsonl").open("ab+") as file:
            file.seek(0)
            whole = file.read().rpartition(b"\n")
            file.truncate(len(whole[0]) + len(whole[1]))  # removes the partial line of a process that was killed
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


def waiting() -> list[Run]:
    """The runs recorded here that the server in use does not have completely, oldest first.

    Runs that another server has are left out: a new tracking server does not receive old runs.
    """
    runs = [Run(file.parent.name) for file in sorted(paths.RUNS.glob("*/events.jsonl"))]
    return [run for run in runs if run.pending and not run.elsewhere]
