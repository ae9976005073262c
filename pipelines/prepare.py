"""Turns raw images into canonical 28x28 images, in three splits that share no image."""

import hashlib

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from model.canonical import canonical_batch
from model.canonical.images import BadImage
from pipelines import paths, stage
from pipelines.artefacts import Prepared, Source, Split
from pipelines.stage import StageError


class PrepareParams(stage.Params, section="prepare"):
    """How the images are split."""

    test: float = Field(gt=0, lt=0.5, description="share of the images, if the source has no test set of its own")
    validation: float = Field(gt=0, lt=0.5, description="share of the images outside the test split")
    seed: int = Field(ge=0, description="of the splits; training has its own")
    frozen_test: dict[str, str] = Field(description="SHA-256 of the test split, by source; other sources are unchecked")


def split(source: Source, *, test: float, validation: float, seed: int) -> NDArray[np.uint8]:
    """The `Split` of each image. Every class is split in the same proportions.

    Within a class, images are sorted by a hash of seed and pixels; the first part is the test split, the next part the
    validation split. No random generator is used: neither the order of the rows nor the version of a library moves an
    image to another split. Copies of an image are neighbours in this order.
    """
    digests = np.array([hashlib.sha256(b"%d " % seed + image.tobytes()).digest() for image in source.images], "S32")
    splits = np.where(source.is_test, Split.TEST, Split.TRAIN).astype(np.uint8)
    if not source.is_test.any():
        _cut(splits, digests, source.labels, test, Split.TEST)
    _cut(splits, digests, source.labels, validation, Split.VALIDATION)
    return splits


def _cut(
    splits: NDArray[np.uint8], digests: NDArray[np.bytes_], labels: NDArray[np.uint8], share: float, target: Split
) -> None:
    for label in np.unique(labels):
        rows = np.flatnonzero((splits == Split.TRAIN) & (labels == label))
        splits[rows[np.argsort(digests[rows])][: round(share * len(rows))]] = target


def digest(source: Source, splits: NDArray[np.uint8]) -> str:
    """SHA-256 of the test split's raw images and labels. The order of the rows does not matter."""
    rows = np.flatnonzero(splits == Split.TEST)
    each = sorted(hashlib.sha256(bytes([source.labels[row]]) + source.images[row].tobytes()).digest() for row in rows)
    return hashlib.sha256(b"".join(each)).hexdigest()


def prepare(source: Source, splits: NDArray[np.uint8]) -> Prepared:
    """Makes every image canonical.

    An image that occurs in several splits stays in the test split, or else in the validation split. Raises `StageError`
    if an image has no ink.
    """
    refused: dict[int, BadImage] = {}
    images = np.empty((len(source.images), 28, 28), np.uint8)
    with tqdm(total=len(images), desc="canonical", unit="image", unit_scale=True, mininterval=0.5) as progress:
        for start in range(0, len(images), 1000):
            chunk = source.images[start : start + 1000]
            images[start : start + 1000], errors = canonical_batch(chunk)
            refused |= {start + row: error for row, error in errors.items()}
            progress.update(len(chunk))
    if refused:
        row = min(refused)
        others = f" (and {len(refused) - 1:,} other images)" if len(refused) > 1 else ""
        name = source.classes[source.labels[row]]
        raise StageError(f"{source.place(row)}, labelled {name}: {refused[row]}{others}")
    seen: set[bytes] = set()
    keep = np.ones(len(images), np.bool_)
    for which in (Split.TEST, Split.VALIDATION, Split.TRAIN):
        rows = np.flatnonzero(splits == which)
        keep[rows] = [images[row].tobytes() not in seen for row in rows]
        seen.update(images[row].tobytes() for row in rows)
    rows = np.flatnonzero(keep)
    return Prepared(images[rows], source.labels[rows], source.classes, splits[rows], rows)


def main() -> None:
    params = PrepareParams.load()
    source = Source.load(paths.RAW)
    splits = split(source, test=params.test, validation=params.validation, seed=params.seed)
    name, actual = str(source.provenance["source"]), digest(source, splits)
    frozen = params.frozen_test.get(name, actual)
    if actual != frozen:
        raise StageError(
            f"the test split of '{name}' is not the frozen one (SHA-256 {actual[:12]}…, not {frozen[:12]}…): models"
            f" could no longer be compared. To freeze this one, set prepare.frozen_test.{name} to {actual}"
        )
    prepared = prepare(source, splits)
    for which in Split:
        there = set(prepared.of(which)[1].tolist())
        missing = [prepared.classes[label] for label in range(len(prepared.classes)) if label not in there]
        if missing:
            raise StageError(f"the {which.name.lower()} split has no image of {', '.join(missing)}; increase"
                             " prepare.validation or prepare.test in params.yaml")  # fmt: skip
    counts = ", ".join(f"{(prepared.splits == which).sum():,} {which.name.lower()}" for which in Split)
    prepared.save(paths.PREPARED)
    print(f"prepare: {counts}; left out {len(source.images) - len(prepared.images):,} images shared between splits")
    if name not in params.frozen_test:
        print(f"prepare: the test split is not frozen; to freeze it, set prepare.frozen_test.{name} to {actual}")


if __name__ == "__main__":
    stage.run(main)
