"""Trains one classifier of the line-up on the training split and judges it on the test split.

python -m pipelines.compare.judge CLASSIFIER
"""

import sys
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from model.canonical import Pixels
from model.networks.lineup import LINE_UP, Classifier
from model.robustness import Point, curves, points
from pipelines import paths, stage
from pipelines.artefacts import Prepared, Split
from pipelines.curves import write
from pipelines.stage import StageError


class CompareParams(stage.Params, section="compare"):
    """How the line-up is judged."""

    robustness_images: int = Field(ge=100)
    timed_images: int = Field(ge=1)
    seed: int = Field(ge=0)


def named(arguments: Sequence[str]) -> str:
    """The classifier that the command line names."""
    if len(arguments) != 1 or arguments[0] not in LINE_UP:
        raise StageError(f"name one classifier, not {' '.join(arguments) or 'none'!r};"
                         f" allowed are {', '.join(LINE_UP)}")  # fmt: skip
    return arguments[0]


def read(classifier: Classifier, images: Pixels) -> NDArray[np.intp]:
    """The digit of each of n x 28 x 28 images."""
    digits: NDArray[np.intp] = classifier.scores(images).argmax(axis=1)
    return digits


def judge(name: str, prepared: Prepared, params: CompareParams) -> tuple[dict[str, float], list[Point]]:
    """A classifier's metrics on the test split, and its robustness curves.

    The times depend on the machine and on the run. Everything else is the same in every run.
    """
    entry = LINE_UP[name]
    rng = np.random.default_rng(params.seed)
    images, labels = prepared.of(Split.TRAIN)
    chosen = rng.permutation(len(images))[: entry.images]
    classifier = entry.build(params.seed)
    started = time.perf_counter()
    classifier.fit(images[chosen], labels[chosen])
    fit_seconds = time.perf_counter() - started

    images, labels = prepared.of(Split.TEST)
    digits = read(classifier, images)
    timed = images[: params.timed_images]
    started = time.perf_counter()
    read(classifier, timed)
    read_seconds = time.perf_counter() - started
    metrics: dict[str, float] = {
        "year": entry.year,
        "trained_on": len(chosen),
        "test_images": len(images),
        "errors": int((digits != labels).sum()),
        "accuracy": float((digits == labels).mean()),
        "fit_seconds": round(fit_seconds, 1),
        "us_per_image": round(1e6 * read_seconds / len(timed), 1),
    }
    some = rng.permutation(len(images))[: params.robustness_images]
    measured = curves(images[some], labels[some], lambda pixels: read(classifier, pixels), seed=params.seed)
    bar = tqdm(measured, desc=f"{name}: robustness", total=points(), unit="point", mininterval=0.5)
    return metrics, list(bar)


def main() -> None:
    name = named(sys.argv[1:])
    metrics, measured = judge(name, Prepared.load(paths.PREPARED), CompareParams.load())
    stage.write_json(paths.COMPARE / f"{name}.json", metrics)
    write(paths.COMPARE / f"{name}.csv", {name: measured})
    print(f"{name}: {metrics['accuracy']:.2%} of {metrics['test_images']:,} test images, trained on"
          f" {metrics['trained_on']:,} in {metrics['fit_seconds']} s,"
          f" {metrics['us_per_image']} µs an image")  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
