"""Turns the journal's labels into data to train on and to judge with: data/feedback.npz, out/feedback/report.json.

    python -m pipelines.feedback [--bundle out/champion]

`dvc repro` does not run it: the journal is no file. $NEOCOG_JOURNAL names the journal. Each run adds the labels that
are new, and judges all of them again. It may be killed at any moment: the file is replaced as a whole, and says itself
how far the journal has been read.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from journal import queries, urls
from journal.database import engine
from journal.errors import WrongUrl
from journal.ids import earlier
from journal.queries import SentLabel
from journal.rows import LabelRow
from model import bundle
from model.bundle import BundleError, Manifest
from pipelines import paths, stage
from pipelines.artefacts import Split
from pipelines.labelled import GOLDEN, ROW, Feedback, Verdict, unjudged
from pipelines.stage import StageError
from pipelines.trust import FeedbackParams, Outcome, judge

# Labels are read again so many seconds before the last one: a replica commits a label up to some seconds after it made
# the id, its clock may be wrong, and a label's prediction may reach the journal later than the label.
OVERLAP: Final = 86_400.0


def extended(feedback: Feedback, sent: Iterable[SentLabel], golden: Iterable[tuple[str, LabelRow]],
             version: str) -> Feedback:  # fmt: skip
    """`feedback` with the labels that it does not have yet, of the same classes. `version` is the served model's."""
    known = set(feedback.rows["id"].tolist())
    classes = len(feedback.classes)
    new = [one for one in sent if one.id.encode() not in known and _fits(one, classes)]
    rows = np.concatenate([feedback.rows, np.array([_row(one) for one in new], ROW)])
    answers = [np.frombuffer(one.probabilities, "<f4").astype(np.float32) for one in new]
    order = np.argsort(rows["id"])
    return replace(
        feedback,
        rows=rows[order],
        pixels=np.concatenate([feedback.pixels, *(one.pixels[None] for one in new)])[order],
        probabilities=np.concatenate([feedback.probabilities, *(answer[None] for answer in answers)])[order],
        golden=_with_golden(feedback.golden, golden, classes),
        versions=tuple(sorted({*feedback.versions, version, *(one.model_version for one in new)})),
        judged=unjudged(len(rows)),
    )


def _fits(sent: SentLabel, classes: int) -> bool:
    """Whether the label is one of a model with so many classes."""
    return 0 <= sent.label.label < classes and len(sent.probabilities) == 4 * classes and sent.predicted < classes


def _row(sent: SentLabel) -> tuple[Any, ...]:
    label = sent.label
    return (
        sent.id, label.prediction_id, sent.time, label.label, label.by or "", label.role, label.asked,
        math.nan if label.seconds is None else label.seconds, -1 if label.blind is None else label.blind,
        sent.caller or "", sent.model_version, sent.predicted, sent.confidence,
    )  # fmt: skip


def _with_golden(before: NDArray[Any], sent: Iterable[tuple[str, LabelRow]], classes: int) -> NDArray[Any]:
    known = set(before["id"].tolist())
    new = [
        (name, label.prediction_id, label.label, label.by or "")
        for name, label in sent
        if name.encode() not in known and 0 <= label.label < classes
    ]
    golden = np.concatenate([before, np.array(new, GOLDEN)])
    return golden[np.argsort(golden["id"])]


def read(connection: Connection, feedback: Feedback, version: str) -> Feedback:
    """`feedback` with the journal's newer labels."""
    after = earlier(feedback.cursor, OVERLAP) if feedback.cursor else ""
    sent = queries.sent_labels(connection, after=after)
    return extended(feedback, sent, list(queries.golden_labels(connection, after=after)), version)


def known(classes: tuple[str, ...]) -> Feedback:
    """The labels that an earlier run read. Raises `StageError` where they are of other classes."""
    if not paths.FEEDBACK.exists():
        return Feedback.empty(classes)
    before = Feedback.load(paths.FEEDBACK)
    if not before.cursor:
        return Feedback.empty(classes)
    if before.classes != classes:
        raise StageError(f"{paths.FEEDBACK} has labels of the classes {', '.join(before.classes)}; the model that is"
                         f" served has {', '.join(classes)}: move the file away to start a new one")  # fmt: skip
    return before


def collected(manifest: Manifest) -> Feedback:
    """All labels that are known now. Raises `StageError` where the journal cannot be read."""
    before = known(tuple(manifest.labels))
    try:
        url = urls.from_environment()
    except WrongUrl as error:
        raise StageError(str(error)) from None
    file = make_url(url).database
    if url.startswith("sqlite") and not Path(str(file)).is_file():
        raise StageError(f"there is no journal {file}; {urls.VARIABLE} names it")
    database = engine(url)
    try:
        with database.connect() as connection:
            return read(connection, before, manifest.version)
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StageError(f"the journal cannot be read: {said}") from None
    finally:
        database.dispose()


def report(feedback: Feedback, outcome: Outcome) -> dict[str, Any]:
    """What report.json holds: how many labels have each verdict, and why; whom and what was held back."""
    judged, rows = feedback.judged, feedback.rows
    reasons = Counter(
        (Verdict(verdict).name.lower(), judged.texts[reason])
        for verdict, reason in zip(judged.verdicts.tolist(), judged.reasons.tolist(), strict=True)
    )
    taken = feedback.taken
    per_class = np.bincount(rows["label"][taken], minlength=len(feedback.classes))
    return {
        "labels": len(rows),
        "verdicts": [
            {"verdict": verdict, "reason": reason, "labels": count}
            for (verdict, reason), count in sorted(reasons.items())
        ],
        "taken": {
            "all": len(taken),
            "to train": int((judged.splits[taken] == Split.TRAIN).sum()),
            "to judge": int((judged.splits[taken] == Split.TEST).sum()),
            "per class": dict(zip(feedback.classes, per_class.tolist(), strict=True)),
        },
        "look wrong by confident learning": int(judged.flagged.sum()),
        "suspects": [{k: v for k, v in asdict(suspect).items() if k != "held"} | {"labels": len(suspect.held)}
                     for suspect in outcome.suspects],
        "golden": {who.decode(): {"right": right, "labelled": count, "trusted": outcome.people.trusted(who)}
                   for who, (right, count) in sorted(outcome.people.golden.items())},
        "cursor": feedback.cursor,
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """The report for people, a line for each verdict and each suspect."""
    lines = [f"{row['labels']:8,}  {row['verdict'].replace('_', ' ')}: {row['reason']}" for row in found["verdicts"]]
    lines += [
        f"          {s['kind']} {s['who']} {s['why']}: {s['wrong']} of {s['count']}, allowed are {s['rate']:.1%}"
        for s in found["suspects"]
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipelines.feedback", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--bundle", type=Path, default=paths.CHAMPION, help="the model that is served")
    folder = parser.parse_args().bundle
    params = FeedbackParams.load()
    try:
        manifest = bundle.read(folder)
    except BundleError as error:
        raise StageError(str(error)) from None
    read_now = collected(manifest)
    outcome = judge(read_now, params)
    feedback = read_now.with_judged(outcome.judged)
    changed = feedback.save(paths.FEEDBACK)
    found = report(feedback, outcome)
    stage.write_json(paths.FEEDBACK_REPORT, found)
    if len(feedback.rows):
        print(table(found))
    taken = found["taken"]
    news = "" if changed else "; nothing new"
    print(f"feedback: {taken['to train']:,} labels to train on, {taken['to judge']:,} to judge with, of"
          f" {len(feedback.rows):,}{news} (report: {paths.FEEDBACK_REPORT})")  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
