"""One classifier of the line-up, named as the argument: trained on the training split, judged on the test split."""

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


def chosen(arguments: Sequence[str]) -> str:
    """The classifier that the command line asks for."""
    if len(arguments) != 1 or arguments[0] not in LINE_UP:
        raise StageError(f"one classifier is asked for, not {' '.join(arguments) or 'none'!r};"
                         f" known are {', '.join(LINE_UP)}")  # fmt: skip
    return arguments[0]


def read(classifier: Classifier, images: Pixels) -> NDArray[np.intp]:
    """The digit of each of n x 28 x 28 images."""
    digits: NDArray[np.intp] = classifier.scores(images).argmax(axis=1)
    return digits


def judge(name: str, prepared: Prepared, params: CompareParams) -> tuple[dict[str, float], list[Point]]:
    """What a classifier is worth on the test split, and its robustness curves.

    The times are of this machine with all its threads, and differ from run to run; all else is the same again.
    """
    entry = LINE_UP[name]
    rng = np.random.default_rng(params.seed)
    images, labels = prepared.of(Split.TRAIN)
    seen = rng.permutation(len(images))[: entry.images]
    classifier = entry.build(params.seed)
    begun = time.perf_counter()
    classifier.fit(images[seen], labels[seen])
    fitted = time.perf_counter() - begun

    images, labels = prepared.of(Split.TEST)
    digits = read(classifier, images)
    timed = images[: params.timed_images]
    begun = time.perf_counter()
    read(classifier, timed)
    took = time.perf_counter() - begun
    metrics: dict[str, float] = {
        "year": entry.year,
        "trained_on": len(seen),
        "test_images": len(images),
        "errors": int((digits != labels).sum()),
        "accuracy": float((digits == labels).mean()),
        "fit_seconds": round(fitted, 1),
        "us_per_image": round(1e6 * took / len(timed), 1),
    }
    some = rng.permutation(len(images))[: params.robustness_images]
    course = curves(images[some], labels[some], lambda pixels: read(classifier, pixels), seed=params.seed)
    bar = tqdm(course, desc=f"{name}: robustness", total=points(), unit="point", mininterval=0.5)
    return metrics, list(bar)


def main() -> None:
    name = chosen(sys.argv[1:])
    metrics, found = judge(name, Prepared.load(paths.PREPARED), CompareParams.load())
    stage.write_json(paths.COMPARE / f"{name}.json", metrics)
    write(paths.COMPARE / f"{name}.csv", {name: found})
    print(f"{name}: {metrics['accuracy']:.2%} of {metrics['test_images']:,} test images, {metrics['trained_on']:,} to"
          f" train on; {metrics['fit_seconds']} s to train, {metrics['us_per_image']} µs an image")  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
