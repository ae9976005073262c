"""The gate: a challenger becomes the champion only if it holds against floors, baselines and the champion."""

import getpass
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.stats import binomtest

from model import bundle
from model.labels import CLASSES
from model.predictor import Predictor
from pipelines import paths, stage, tracking
from pipelines.prepare import Prepared, Split
from pipelines.stage import StageError

Digits = NDArray[np.uint8]


class PromoteParams(stage.Params, section="promote"):
    """What the gate asks."""

    significance: float = Field(gt=0, lt=0.5)
    min_accuracy: float = Field(ge=0, le=1)
    min_class_accuracy: float = Field(ge=0, le=1)
    suspicious_from: int = Field(ge=1)
    max_model_bytes: int = Field(ge=1)


@dataclass(frozen=True)
class Check:
    """One condition: what was found, what is asked, and whether it holds."""

    name: str
    found: str
    asked: str
    passed: bool


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same images (McNemar 1947, in its exact form)."""

    only_challenger_wrong: int
    only_rival_wrong: int
    p_worse: float  # the chance of so many more errors of the challenger, were the two equally good


def mcnemar(labels: Digits, challenger: Digits, rival: Digits) -> Paired:
    """A one-sided exact McNemar test of "the challenger is worse". All three are n digits.

    Only images that exactly one of them reads wrongly tell the two apart; if the two are equally good, each such image
    is as likely one's error as the other's.
    """
    only_challenger = int(((challenger != labels) & (rival == labels)).sum())
    only_rival = int(((challenger == labels) & (rival != labels)).sum())
    apart = only_challenger + only_rival
    p = float(binomtest(only_challenger, apart, 0.5, alternative="greater").pvalue) if apart else 1.0
    return Paired(only_challenger, only_rival, p)


def gate(
    labels: Digits,
    challenger: Digits,
    baselines: Mapping[str, Digits],
    champion: Digits | None,
    model_bytes: int,
    shared_images: int,
    params: PromoteParams,
) -> Iterator[Check]:
    """Every condition, held or not. `champion` is None where there is none yet: floors and baselines alone decide.

    `shared_images` counts test images that training saw too.
    """
    right = challenger == labels
    accuracy = float(right.mean())
    yield Check("accuracy", f"{accuracy:.2%}", f"at least {params.min_accuracy:.2%}", accuracy >= params.min_accuracy)
    for digit in range(CLASSES):
        of = right[labels == digit]
        share = float(of.mean()) if len(of) else 0.0
        floor = params.min_class_accuracy
        yield Check(f"accuracy on {digit}", f"{share:.2%} of {len(of)}", f"at least {floor:.2%}", share >= floor)
    perfect = bool(right.all()) and len(labels) >= params.suspicious_from
    yield Check("not too good", f"{(~right).sum()} errors in {len(labels):,}",
                f"an error, from {params.suspicious_from:,} images on", not perfect)  # fmt: skip
    yield Check("no leak", f"{shared_images} test images in training", "0", shared_images == 0)
    yield Check(
        "size", f"{model_bytes:,} bytes", f"at most {params.max_model_bytes:,}", model_bytes <= params.max_model_bytes
    )

    linear = float((baselines["logistic_regression"] == labels).mean())
    yield Check("beats logistic regression", f"{accuracy:.2%}", f"more than {linear:.2%}", accuracy > linear)
    yield _not_worse("RBF SVM", labels, challenger, baselines["rbf_svm"], params.significance)
    if champion is not None:
        yield _not_worse("champion", labels, challenger, champion, params.significance)


def _not_worse(name: str, labels: Digits, challenger: Digits, rival: Digits, significance: float) -> Check:
    test = mcnemar(labels, challenger, rival)
    found = f"{test.only_challenger_wrong} errors of its own against {test.only_rival_wrong}, p = {test.p_worse:.3f}"
    return Check(f"not worse than the {name}", found, f"p at least {significance}", test.p_worse >= significance)


def report(checks: list[Check], challenger: str, champion: str | None) -> str:
    """gate.md: the decision first, then every check."""
    passed = all(check.passed for check in checks)
    lines = [
        f"# {'Promoted' if passed else 'Refused'}: model {challenger}",
        "",
        f"Champion until now: {champion or 'none, so floors and baselines alone decided'}.",
        "",
        "| | check | found | asked |",
        "|---|---|---|---|",
        *(f"| {'✓' if c.passed else '✗'} | {c.name} | {c.found} | {c.asked} |" for c in checks),
    ]
    return "\n".join(lines) + "\n"


def reigning(into: Path) -> Path | None:
    """The champion's bundle: the registry's where it answers and has one, else the local copy, else none."""
    local = paths.CHAMPION if paths.CHAMPION.exists() else None
    for run in tracking.waiting():  # a promotion that wasn't sent yet comes before what the registry says
        try:
            run.send()
        except tracking.Unreachable:
            break
    try:
        found = tracking.champion(into)
    except tracking.Unreachable as error:
        print(f"warning: {error}; the champion is taken from {paths.CHAMPION}", file=sys.stderr)
        return local
    return found.bundle if found else local


def main() -> None:
    params = PromoteParams.load()
    prepared = Prepared.load(paths.PREPARED)
    images, labels = prepared.of(Split.TEST)
    predictor = Predictor.load(paths.BUNDLE)
    with np.load(paths.PREDICTIONS) as file:
        baselines = {name: file[name] for name in ("logistic_regression", "rbf_svm")}
    training = {image.tobytes() for image in prepared.of(Split.TRAIN)[0]}
    with tempfile.TemporaryDirectory() as folder:
        old = reigning(Path(folder))
        try:
            champion = Predictor.load(old, prove=False) if old else None
        except bundle.BundleError as error:
            raise StageError(f"the champion cannot be compared with: {error}") from None
        version = champion.manifest.version if champion else None
        checks = list(gate(
            labels,
            _digits(predictor, images),
            baselines,
            _digits(champion, images) if champion else None,
            (paths.BUNDLE / bundle.MODEL).stat().st_size,
            sum(image.tobytes() in training for image in images),
            params,
        ))  # fmt: skip
    challenger = predictor.manifest.version
    passed = all(check.passed for check in checks)
    run = tracking.Run.resume()
    decision = {
        "promoted": passed,
        "challenger": challenger,
        "champion": version,
        "test_images": len(labels),
        "checks": [asdict(check) for check in checks],
    }
    stage.write_json(paths.GATE, decision)
    with stage.writing(paths.GATE_REPORT) as half:
        half.write_text(report(checks, challenger, version))
    run.artifact(paths.GATE)
    run.artifact(paths.GATE_REPORT)
    if not passed:
        failed = "; ".join(f"{check.name}: {check.found}, asked {check.asked}" for check in checks if not check.passed)
        raise StageError(f"model {challenger} is refused: {failed} (report: {paths.GATE_REPORT})")
    crown(run, challenger, version)
    print(f"promote: model {challenger} is the champion ({len(checks)} checks passed, before: {version or 'none'})")


def _digits(predictor: Predictor, images: NDArray[np.uint8]) -> Digits:
    return np.concatenate(
        [predictor.probabilities(images[at : at + 1024]).argmax(axis=1) for at in range(0, len(images), 1024)]
    ).astype(np.uint8)


def crown(run: tracking.Run, challenger: str, champion: str | None) -> None:
    """The bundle becomes the champion: the copy that is served, the registry's alias, a line in the promotion log.

    A champion that is trained again, bit for bit, takes its own place: that is no promotion to log.
    """
    new = Path(tempfile.mkdtemp(prefix=f".{paths.CHAMPION.name}-", dir=paths.OUT))
    shutil.copytree(paths.BUNDLE, new, dirs_exist_ok=True)
    bundle.replace(new, paths.CHAMPION)
    run.crown()
    if challenger == champion:
        return
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": os.environ.get("GITHUB_ACTOR") or getpass.getuser(),
        "model": challenger,
        "previous": champion,
        "run": run.key,
    }
    with paths.PROMOTIONS.open("a") as file:
        file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    stage.run(main)
