"""What the stages hand each other as files: raw images, prepared images, predictions.

No stage imports another stage; they share these classes instead. The trained network has its own module, `weights`, so
that a change to the network does not run `ingest` again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipelines import paths, stage
from pipelines.stage import StageError

Labels: TypeAlias = NDArray[np.uint8]  # places in `classes`
Images: TypeAlias = NDArray[np.uint8] | list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Source:
    """Raw images, as `ingest` writes them."""

    images: Images  # n x height x width grey levels; a list if the sizes differ
    labels: Labels  # n
    classes: tuple[str, ...]  # what the labels mean; the source alone decides it, and every later stage reads it here
    is_test: NDArray[np.bool_]  # n, True where the source itself keeps the image for testing
    provenance: dict[str, object]
    files: tuple[str, ...] = ()  # n, if each image comes from a file of its own

    def place(self, row: int) -> str:
        """Where the image of `row` comes from, for a message."""
        return self.files[row] if self.files else f"row {row} of {paths.RAW}"

    def save(self, path: Path) -> None:
        arrays: dict[str, NDArray[Any]] = {
            "labels": self.labels,
            "classes": np.array(self.classes),
            "is_test": self.is_test,
            "files": np.array(self.files, str),
            "provenance": np.frombuffer(json.dumps(self.provenance).encode(), np.uint8),
        }
        if isinstance(self.images, list):
            arrays["pixels"] = np.concatenate([image.ravel() for image in self.images])
            arrays["shapes"] = np.array([image.shape for image in self.images])
        else:
            arrays["images"] = self.images
        with stage.writing(path) as half:
            np.savez(half, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Source":
        """Raises `StageError` if the file is not such an archive. `validate` judges the content."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                images: Images
                if "images" in file:
                    images = file["images"]
                else:
                    pixels, shapes = file["pixels"], file["shapes"]
                    flat = np.split(pixels, shapes.prod(axis=1).cumsum()[:-1])
                    images = [image.reshape(shape) for image, shape in zip(flat, shapes, strict=True)]
                return cls(images, file["labels"], tuple(file["classes"].tolist()), file["is_test"],
                           json.loads(file["provenance"].tobytes()), tuple(file["files"].tolist()))  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise StageError(f"{path} is not a file that ingest wrote: {error}") from None


class Split(IntEnum):
    """Which images a model may see, and when."""

    TRAIN = 0
    VALIDATION = 1  # to choose: temperature, threshold, settings
    TEST = 2  # to report, once


@dataclass(frozen=True)
class Prepared:
    """Canonical images and the split of each, as `prepare` and `synthesize` write them."""

    images: NDArray[np.uint8]  # n x 28 x 28
    labels: Labels  # n; `synthesize` labels a picture of no class with the number of classes
    classes: tuple[str, ...]  # as in `Source`
    splits: NDArray[np.uint8]  # n, of `Split`
    rows: NDArray[np.int64]  # n, the row of raw.npz that each image came from

    def of(self, split: Split) -> tuple[NDArray[np.uint8], Labels]:
        """The images and the labels of one split."""
        chosen = self.splits == split
        return self.images[chosen], self.labels[chosen]

    def save(self, path: Path) -> None:
        with stage.writing(path) as half:
            np.savez(half, images=self.images, labels=self.labels, classes=np.array(self.classes),
                     splits=self.splits, rows=self.rows)  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "Prepared":
        with np.load(path, allow_pickle=False) as file:
            classes = tuple(file["classes"].tolist())
            return cls(file["images"], file["labels"], classes, file["splits"], file["rows"])


def validation(real: Prepared, synthetic: Prepared) -> tuple[NDArray[np.uint8], Labels]:
    """The images and the labels of both validation splits.

    The few real digits of the default data are all read rightly. They can neither calibrate nor show how often the
    model errs.
    """
    both = [data.of(Split.VALIDATION) for data in (real, synthetic)]
    return np.concatenate([images for images, _ in both]), np.concatenate([labels for _, labels in both])


@dataclass(frozen=True)
class Predictions:
    """The answers on the test split, as `evaluate` writes them for `promote`."""

    labels: Labels  # n
    probabilities: NDArray[np.floating]  # n x classes, of the trained network
    baselines: Mapping[str, Labels]  # n labels of each baseline, by its name

    def save(self, path: Path) -> None:
        with stage.writing(path) as half:
            np.savez(half, labels=self.labels, probabilities=self.probabilities, **self.baselines)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        return cls(arrays.pop("labels"), arrays.pop("probabilities"), arrays)
