"""The gate: a challenger becomes the champion only if it passes floors, baselines and a test against the champion."""

import getpass
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import bdtr, bdtrc

from model import bundle
from model.bundle import Manifest
from model.canonical import Pixels
from model.predictor import Predictor
from model.robustness import MARGIN, bare, distorted, product
from pipelines import paths, stage, tracking
from pipelines.artefacts import Labels, Predictions, Prepared, Split
from pipelines.labelled import Feedback, hard_cases
from pipelines.stage import StageError
from pipelines.timing import inference_us

EXPERIMENT: Final = "DVC_EXP_NAME"  # set by `dvc exp run` for the stages it runs


class PromoteParams(stage.Params, section="promote"):
    """The conditions of the gate."""

    significance: float = Field(gt=0, lt=0.5)
    min_accuracy: float = Field(ge=0, le=1)
    min_class_accuracy: float = Field(ge=0, le=1)
    shift: int = Field(ge=1, le=MARGIN)
    min_shifted_accuracy: float = Field(ge=0, le=1)
    bare_shift: int = Field(ge=1, le=MARGIN)
    min_bare_shifted_accuracy: float = Field(ge=0, le=1)
    suspicious_from: int = Field(ge=1)
    canaries: int = Field(ge=1)
    canary_loss: float = Field(ge=0, le=1)
    min_audited: int = Field(ge=1)
    max_model_bytes: int = Field(ge=1)
    max_inference_us: float = Field(gt=0)


@dataclass(frozen=True)
class Check:
    """One condition: the value that was found, the value that is asked, and whether it holds."""

    name: str
    found: str
    asked: str
    passed: bool


@dataclass(frozen=True)
class Challenger:
    """The challenger's labels for the test images, and its size and speed."""

    labels: Labels
    shifted: Labels  # for the images moved by `shift` on a larger canvas and made canonical, as in the product
    bare_shifted: Labels  # for the images moved by `bare_shift`, without `canonical`
    model_bytes: int
    inference_us: float

    @classmethod
    def measured(cls, predictor: Predictor, images: Pixels, model_bytes: int, params: PromoteParams) -> "Challenger":
        return cls(
            _labels(predictor, images),
            _labels(predictor, product(distorted(images, "shift", params.shift, seed=0))),
            _labels(predictor, bare(distorted(images, "shift", params.bare_shift, seed=0))),
            model_bytes,
            inference_us(predictor, images[0]),
        )


@dataclass(frozen=True)
class Paired:
    """Two classifiers on the same images (McNemar 1947, in its exact form)."""

    only_challenger_wrong: int
    only_rival_wrong: int
    p_worse: float  # the chance of at least so many errors of the challenger if both are equally good
    p_better: float  # the chance of at most so many


def mcnemar(labels: Labels, challenger: Labels, rival: Labels) -> Paired:
    """One-sided exact McNemar tests of "the challenger is worse" and of "is better". All three are n labels.

    Only images that exactly one of the two reads wrongly count. If both are equally good, each such image is equally
    likely to be an error of either.
    """
    only_challenger = int(((challenger != labels) & (rival == labels)).sum())
    only_rival = int(((challenger == labels) & (rival != labels)).sum())
    # The tails of the binomial distribution. scipy.stats has them too, but takes 2 s to import.
    discordant = only_challenger + only_rival
    p_worse = float(bdtrc(only_challenger - 1, discordant, 0.5))
    return Paired(only_challenger, only_rival, p_worse, float(bdtr(only_challenger, discordant, 0.5)))


def gate(
    labels: Labels,
    classes: Sequence[str],
    challenger: Challenger,
    baselines: Mapping[str, Labels],
    champion: Labels | None,
    shared_images: int,
    params: PromoteParams,
) -> Iterator[Check]:
    """Every condition, whether it holds or not. If `champion` is None, floors and baselines alone decide.

    `shared_images` is the number of images to judge with, people's included, that the challenger was trained on.
    """
    right = challenger.labels == labels
    accuracy = float(right.mean())
    yield _floor("accuracy", right, params.min_accuracy)
    for label, name in enumerate(classes):
        yield _floor(f"accuracy on {name}", right[labels == label], params.min_class_accuracy)
    yield _floor(f"shifted by {params.shift} px", challenger.shifted == labels, params.min_shifted_accuracy)
    yield _floor(f"shifted by {params.bare_shift} px, without canonical", challenger.bare_shifted == labels,
                 params.min_bare_shifted_accuracy)  # fmt: skip
    perfect = bool(right.all()) and len(labels) >= params.suspicious_from
    yield Check("not too good", f"{(~right).sum()} errors in {len(labels):,}",
                f"an error, from {params.suspicious_from:,} images on", not perfect)  # fmt: skip
    yield Check("no leak", f"{shared_images} test images in training", "0", shared_images == 0)
    size, time = challenger.model_bytes, challenger.inference_us
    yield Check("size", f"{size:,} bytes", f"at most {params.max_model_bytes:,}", size <= params.max_model_bytes)
    yield Check("latency", f"{time:.0f} µs for one image", f"at most {params.max_inference_us:.0f}",
                time <= params.max_inference_us)  # fmt: skip

    linear = float((baselines["logistic_regression"] == labels).mean())
    asked = "not worse than 100.00%, which cannot be beaten" if linear == 1 else f"more than {linear:.2%}"
    yield Check("beats logistic regression", f"{accuracy:.2%}", asked, accuracy > linear or accuracy == linear == 1)
    yield _not_worse("RBF SVM", labels, challenger.labels, baselines["rbf_svm"], params.significance)
    if champion is not None:
        yield _not_worse("champion", labels, challenger.labels, champion, params.significance)


@dataclass(frozen=True)
class Labelled:
    """Pictures that people labelled, and what the two models read in them."""

    judged: Labels  # the labels of held-out callers' pictures
    judged_challenger: Labels
    judged_champion: Labels
    at_random: bool  # the pictures were drawn at random; otherwise many were labelled because they were read wrongly
    canaries: Labels  # the labels of the oldest pictures that a model once read wrongly
    canaries_challenger: Labels
    canaries_champion: Labels
    newly_trained_on: bool  # the challenger was trained on labels that the champion was not trained on


def people_checks(found: Labelled, champion_errors: float, params: PromoteParams) -> Iterator[Check]:
    """The conditions on the pictures that people labelled.

    `champion_errors` is the champion's share of errors on the frozen test split. Where it makes significantly more on
    people's pictures, new labels are a reason to train again, and the challenger must be better on these pictures.
    Otherwise it must not be worse.
    """
    if len(found.judged):
        test = mcnemar(found.judged, found.judged_challenger, found.judged_champion)
        wrong, count = int((found.judged_champion != found.judged).sum()), len(found.judged)
        misread = bdtrc(wrong - 1, count, champion_errors) < params.significance
        shown = (f"{test.only_challenger_wrong} errors of its own against {test.only_rival_wrong} in {count:,}"
                 f" {'drawn at random' if found.at_random else 'labelled for any reason'}")  # fmt: skip
        if misread and found.newly_trained_on:
            yield Check("better than the champion on people's pictures", f"{shown}, p = {test.p_better:.3f}",
                        f"p below {params.significance}: the champion misreads {wrong / count:.2%} of them,"
                        f" {champion_errors:.2%} of the test split", test.p_better < params.significance)  # fmt: skip
        else:
            yield Check("not worse than the champion on people's pictures", f"{shown}, p = {test.p_worse:.3f}",
                        f"p at least {params.significance}", test.p_worse >= params.significance)  # fmt: skip
    if len(found.canaries):
        floor = float((found.canaries_champion == found.canaries).mean()) - params.canary_loss
        yield _floor("people's oldest hard pictures", found.canaries_challenger == found.canaries, max(0.0, floor))


def _floor(name: str, right: NDArray[np.bool_], floor: float) -> Check:
    share = float(right.mean()) if len(right) else 0.0
    return Check(name, f"{share:.2%} of {len(right):,}", f"at least {floor:.2%}", share >= floor)


def _not_worse(name: str, labels: Labels, challenger: Labels, rival: Labels, significance: float) -> Check:
    test = mcnemar(labels, challenger, rival)
    found = f"{test.only_challenger_wrong} errors of its own against {test.only_rival_wrong}, p = {test.p_worse:.3f}"
    return Check(f"not worse than the {name}", found, f"p at least {significance}", test.p_worse >= significance)


def report(checks: list[Check], challenger: Manifest, champion: Manifest | None) -> str:
    """The text of gate.md: first the decision, then every check."""
    current = champion.version if champion else "none, so floors and baselines alone decide"
    lines = [
        f"# {'Passed' if all(check.passed for check in checks) else 'Refused'}: model {challenger.version}",
        "",
        f"Champion until now: {current}.",
    ]
    if champion and champion.labels != challenger.labels:
        lines.append("It has other labels and cannot be compared, so floors and baselines alone decide.")
    elif champion and champion.canonical_version != challenger.canonical_version:
        lines.append(
            f"It was trained on canonical version {champion.canonical_version} and is judged here on the pixels of"
            f" version {challenger.canonical_version}: the comparison favours the challenger."
        )
    rows = [f"| {'✓' if c.passed else '✗'} | {c.name} | {c.found} | {c.asked} |" for c in checks]
    return "\n".join([*lines, "", "| | check | found | asked |", "|---|---|---|---|", *rows]) + "\n"


def current_champion(into: Path) -> Path | None:
    """The champion's bundle: the registry's if it answers and has one, otherwise the local copy, otherwise None."""
    local = paths.CHAMPION if paths.CHAMPION.exists() else None
    for run in tracking.waiting():  # a promotion that is not sent yet is newer than the registry's champion
        with suppress(tracking.Unreachable):  # one bad run must not stop the others; a server that is down shows below
            run.send()
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
    baselines = Predictions.load(paths.PREDICTIONS).baselines
    people, feedback = Prepared.load(paths.LABELS), Feedback.load(paths.FEEDBACK)
    training = {image.tobytes() for part in (prepared, people) for image in part.of(Split.TRAIN)[0]}
    with tempfile.TemporaryDirectory() as folder:
        old = current_champion(Path(folder))
        try:
            champion = Predictor.load(old, prove=False) if old else None
        except bundle.BundleError as error:
            raise StageError(f"the champion cannot be used for the comparison: {error}") from None
        comparable = champion is not None and champion.manifest.labels == predictor.manifest.labels
        champions = _labels(champion, images) if champion and comparable else None
        checks = list(gate(
            labels,
            prepared.classes,
            Challenger.measured(predictor, images, (paths.BUNDLE / bundle.MODEL).stat().st_size, params),
            baselines,
            champions,
            sum(image.tobytes() in training for image in (*images, *people.of(Split.TEST)[0])),
            params,
        ))  # fmt: skip
        if champion is not None and champions is not None:
            found = labelled(people, feedback, predictor, champion, params)
            errors = ((champions != labels).sum() + 1) / (len(labels) + 2)  # Laplace 1814: none seen is not 0
            checks += people_checks(found, float(errors), params)
    passed = all(check.passed for check in checks)
    before = champion.manifest if champion else None
    text = report(checks, predictor.manifest, before)
    stage.write_json(paths.GATE, {
        "passed": passed,
        "challenger": predictor.manifest.version,
        "champion": before.version if before else None,
        "test_images": len(labels),
        "checks": [asdict(check) for check in checks],
    })  # fmt: skip
    with stage.writing(paths.GATE_REPORT) as half:
        half.write_text(text)
    run = tracking.Run.resume()
    run.artifact(paths.GATE)
    run.artifact(paths.GATE_REPORT)
    run.artifact(paths.CARD)
    version = predictor.manifest.version
    failed = "; ".join(f"{check.name}: {check.found}, asked {check.asked}" for check in checks if not check.passed)
    if os.environ.get(EXPERIMENT):
        verdict = f"would be refused: {failed}" if failed else "would pass"
        print(f"promote: model {version} {verdict}; experiments are never promoted (report: {paths.GATE_REPORT})")
    elif failed:
        raise StageError(f"model {version} is refused: {failed} (report: {paths.GATE_REPORT})")
    else:
        promote(run, version, before.version if before else None)
        previous = before.version if before else "none"
        print(f"promote: model {version} is the champion ({len(checks)} checks passed, before: {previous})")


def labelled(
    people: Prepared, feedback: Feedback, challenger: Predictor, champion: Predictor, params: PromoteParams
) -> Labelled:
    """What both models read in people's pictures. `people` are those of `feedback` that are used."""
    judged = people.rows[people.splits == Split.TEST]
    audited = judged[feedback.rows["asked"][judged] == b"audit"]
    at_random = len(audited) >= params.min_audited
    judged = audited if at_random else judged
    pixels, hard = feedback.pixels[judged], hard_cases(feedback, people.rows, params.canaries)
    trained_on = challenger.manifest.sha256.get("labels")
    new = trained_on != champion.manifest.sha256.get("labels") and bool((people.splits == Split.TRAIN).any())
    return Labelled(
        judged=feedback.rows["label"][judged],
        judged_challenger=_labels(challenger, pixels),
        judged_champion=_labels(champion, pixels),
        at_random=at_random,
        canaries=feedback.rows["label"][hard],
        canaries_challenger=_labels(challenger, feedback.pixels[hard]),
        canaries_champion=_labels(champion, feedback.pixels[hard]),
        newly_trained_on=new,
    )


def _labels(predictor: Predictor, images: Pixels) -> Labels:
    batches = [predictor.probabilities(images[at : at + 1024]).argmax(axis=1) for at in range(0, len(images), 1024)]
    return np.concatenate([np.empty(0, np.uint8), *batches]).astype(np.uint8)


def promote(run: tracking.Run, challenger: str, champion: str | None) -> None:
    """Makes the bundle the champion: a line in the promotion log, the copy that is served, the registry's alias.

    The order matters: after an interruption the next `dvc repro` repeats all of it, and the log already has its line.
    A champion that was trained again and came out bit-identical gets no new line.
    """
    logged = paths.PROMOTIONS.read_text().splitlines() if paths.PROMOTIONS.exists() else []
    if not logged or json.loads(logged[-1])["model"] != challenger:
        entry = {
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "by": _person(),
            "model": challenger,
            "previous": champion,
            "run": run.key,
        }
        with paths.PROMOTIONS.open("a") as file:
            file.write(json.dumps(entry) + "\n")
    with tempfile.TemporaryDirectory(prefix=".champion-", dir=paths.OUT) as folder:
        new = Path(folder) / paths.CHAMPION.name
        shutil.copytree(paths.BUNDLE, new)
        bundle.replace(new, paths.CHAMPION)
    run.set_champion()


def _person() -> str:
    """Who promotes: the person who started the workflow, otherwise the user. A container's user may have no name."""
    try:
        return os.environ.get("GITHUB_ACTOR") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


if __name__ == "__main__":
    stage.run(main)
