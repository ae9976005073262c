"""`python -m pipelines.watch`: reads the journal, and says whether the model still works: docs/watch.md.

Exit codes: 0 nothing is wrong, or there is a change alone; 1 it could not be watched; 3 harm (with --strict: or risk).
"""

import argparse
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from journal.database import engine
from journal.deadlines import within
from journal.errors import WrongUrl
from journal.migrations import upgrade
from journal.queries import recent, waiting
from journal.tables import watch
from journal.urls import from_environment
from model import bundle
from model.bundle import BundleError
from model.canonical import SIDE
from model.drift import BadReference, Reference
from model.epochs import StateError
from model.predictor import Predictor
from pipelines import paths, stage
from pipelines.stage import StageError
from pipelines.watching import outputs
from pipelines.watching.metrics import Metrics
from pipelines.watching.params import WatchParams
from pipelines.watching.reading import DEADLINE, Model, Reader
from pipelines.watching.report import html
from pipelines.watching.summary import summary

HARM: Final = 3  # the exit code
QUEUE_EVERY: Final = 60.0  # seconds between two counts of what waits for a person: it reads days of predictions
REPORT_EVERY: Final = 60.0  # seconds between two reports of --follow, unless an alarm has rung


class Watch:
    """The bundle in `folder`, watched in the journal at `url`."""

    def __init__(self, url: str, folder: Path, out: Path, params: WatchParams) -> None:
        self._url, self._folder, self._out, self._params = url, folder, out, params
        self.metrics = Metrics()
        self.ended = threading.Event()
        self._manifest, self._reader = self._load()
        self._refused = b""  # the manifest of a bundle that cannot be watched
        self._counted_queue = 0.0
        self._reported, self._report_made = ("", 0), 0.0  # the model and the alarms that the report is about

    def round(self, *, acknowledge: bool = False, progress: bool = False) -> dict[str, Any]:
        """Reads what is new, and writes the files. Returns the summary.

        Raises `StageError` where the journal or its state cannot be used now.
        """
        self._reload()
        reader = self._reader
        made = self._journal()
        try:
            if acknowledge:
                reader.acknowledge(made)
            self._read(reader, made, progress=progress)
            said = summary(reader.state(made), reader.model.version, time.time())
            self._count_queue(made)
            self._write(reader, made, said)
        except (SQLAlchemyError, StateError) as error:
            raise StageError(_short(error)) from None
        finally:
            made.dispose()
        return said

    def _load(self) -> tuple[bytes, Reader]:
        """The bundle's manifest and a reader for it. Raises `StageError`."""
        try:
            # The manifest first: if another bundle comes meanwhile, the next round sees another manifest.
            manifest = (self._folder / bundle.MANIFEST).read_bytes()
            predictor = Predictor.load(self._folder)
            reference = Reference.parse(predictor.reference)
            predictor.features(np.zeros((1, SIDE, SIDE), np.uint8))  # refuses a bundle without them
        except FileNotFoundError:
            raise StageError(f"there is no bundle at {self._folder}: name one with --bundle") from None
        except (BundleError, BadReference) as error:
            raise StageError(str(error)) from None
        said = predictor.manifest
        return manifest, Reader(Model(said.version, said.labels, reference, predictor.features), self._params)

    def _reload(self) -> None:
        """Watches the bundle that has come into the folder. Until it can be watched, the old one is."""
        try:
            now = (self._folder / bundle.MANIFEST).read_bytes()
        except OSError:  # it is being replaced
            return
        if now == self._manifest:
            return
        try:
            self._manifest, self._reader = self._load()
        except StageError as error:  # perhaps it is still being copied
            if now != self._refused:
                print(f"watch: {error}; the old bundle is watched on", file=sys.stderr, flush=True)
            self._refused = now

    def _journal(self) -> Engine:
        """The journal, migrated. A new one each time: a file that was replaced is then opened anew."""
        url = make_url(self._url)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
            raise StageError(f"there is no journal at {url.database}; the service makes it")
        made = engine(self._url)
        try:
            with within(DEADLINE):
                there = sa.inspect(made).has_table(watch.name)
            if not there:
                upgrade(made)
        except SQLAlchemyError as error:
            made.dispose()
            raise StageError(_short(error)) from None
        return made

    def _read(self, reader: Reader, made: Engine, *, progress: bool) -> None:
        before = reader.horizon()
        total = reader.left(made, before) if progress else None
        with tqdm(total=total, unit=" predictions", unit_scale=True, disable=None if progress else True) as bar:
            while not self.ended.is_set() and (read := reader.step(made, before)) is not None:
                bar.update(read)

    def _count_queue(self, made: Engine) -> None:
        self.metrics.succeeded = time.time()
        if self.metrics.succeeded - self._counted_queue < QUEUE_EVERY:
            return
        self._counted_queue = self.metrics.succeeded
        with within(DEADLINE), made.connect() as connection:
            since = self.metrics.succeeded - self._params.queue_days * 86_400
            self.metrics.queue = waiting(connection, since=since)

    def _write(self, reader: Reader, made: Engine, said: dict[str, Any]) -> None:
        self.metrics.summary = said
        outputs.write(self._out / outputs.METRICS, outputs.metrics_text(self.metrics))
        about = said["model_version"], len(said["alarms"])
        if about != self._reported or said["updated"] - self._report_made >= REPORT_EVERY:
            with within(DEADLINE), made.connect() as connection:
                newest = recent(connection, reader.model.version, limit=self._params.recent)
            page = html(reader.state(made), said, newest, reader.model.labels)
            outputs.write(self._out / outputs.REPORT, page.encode())
            self._reported, self._report_made = about, said["updated"]
        stage.write_json(self._out / outputs.SUMMARY, said)  # last: whoever waits for it finds the others written


def follow(watching: Watch, every: float) -> None:
    """Looks `every` so many seconds until SIGTERM or Ctrl-C. A journal that is away is reported once."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watching.ended.set())
    away = ""
    while not watching.ended.is_set():
        try:
            watching.round()
        except StageError as error:
            if not away:
                print(f"watch: {error}; trying on", file=sys.stderr, flush=True)
            away = str(error)
        else:
            if away:
                print("watch: the journal is read again", file=sys.stderr, flush=True)
            away = ""
        watching.ended.wait(every)


def line(said: dict[str, Any]) -> str:
    """The summary in one line."""
    parts = [
        f"{said['predictions']:,} predictions and {said['labels']:,} audit labels of model {said['model_version']}"
    ]
    if said["estimated_accuracy"]:
        parts.append("estimated accuracy {mean:.2%} ({low:.2%} to {high:.2%})".format(**said["estimated_accuracy"]))
    if said["error"]:
        parts.append("error rate {mean:.2%} ({low:.2%} to {high:.2%})".format(**said["error"]))
    return f"{said['status']}: {'; '.join(parts)}"


def _short(error: Exception) -> str:
    return f"the journal cannot be read: {str(getattr(error, 'orig', error)).strip().splitlines()[0]}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipelines.watch", description=__doc__)
    parser.add_argument("--bundle", type=Path, default=paths.CHAMPION, help="the model that is watched")
    parser.add_argument(
        "--out", type=Path, default=paths.WATCH, help="folder for watch.json, report.html, metrics.prom"
    )
    parser.add_argument("--settle", type=float, help="seconds that replicas have to write; instead of params.yaml's")
    parser.add_argument(
        "--baseline", type=int, help="first predictions to measure change from; instead of params.yaml's"
    )
    parser.add_argument("--strict", action="store_true", help=f"exit with {HARM} for risk, too")
    parser.add_argument("--acknowledge", action="store_true", help="end the alarms, and count afresh from here")
    parser.add_argument("--follow", action="store_true", help="go on until SIGTERM")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two looks of --follow")
    parser.add_argument("--port", type=int, default=0, help="of --follow, for /metrics and the report; 0: none")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    return parser.parse_args()


def _params(given: argparse.Namespace) -> WatchParams:
    changed = {name: value for name in ("settle", "baseline") if (value := getattr(given, name)) is not None}
    return WatchParams.load(changes=changed)


def main() -> None:
    given = _arguments()
    try:
        url = from_environment()
    except WrongUrl as error:
        raise StageError(str(error)) from None
    watching = Watch(url, given.bundle, given.out, _params(given))
    if given.follow:
        server = outputs.Server(given.host, given.port, given.out, watching.metrics) if given.port else None
        follow(watching, given.every)
        if server is not None:
            server.close()
        return
    said = watching.round(acknowledge=given.acknowledge, progress=True)
    print(line(said))
    sys.exit(HARM if said["status"] == "harm" or (given.strict and said["status"] == "risk") else 0)


if __name__ == "__main__":
    stage.run(main)
