"""What the stages hand each other as files: raw images, prepared images, predictions.

No stage imports another stage; they share these classes instead. The trained network has its own module, `weights`, so
that a change to the network does not run `ingest` again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipelines import stage
from pipelines.stage import StageError

Digits: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """Raw images, as `ingest` writes them."""

    images: NDArray[np.uint8]  # n x height x width, ink bright
    labels: Digits  # n
    is_test: NDArray[np.bool_]  # n, True where the source itself keeps the image for testing
    provenance: dict[str, object]

    def save(self, path: Path) -> None:
        with stage.writing(path) as half:
            np.savez(half, images=self.images, labels=self.labels, is_test=self.is_test,
                     provenance=np.frombuffer(json.dumps(self.provenance).encode(), np.uint8))  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "Source":
        """Raises `StageError` if the file is not such an archive. `validate` judges the content."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                return cls(file["images"], file["labels"], file["is_test"], json.loads(file["provenance"].tobytes()))
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
    labels: Digits  # n
    splits: NDArray[np.uint8]  # n, of `Split`
    rows: NDArray[np.int64]  # n, the row of raw.npz that each image came from

    def of(self, split: Split) -> tuple[NDArray[np.uint8], Digits]:
        """The images and the labels of one split."""
        chosen = self.splits == split
        return self.images[chosen], self.labels[chosen]

    def save(self, path: Path) -> None:
        with stage.writing(path) as half:
            np.savez(half, images=self.images, labels=self.labels, splits=self.splits, rows=self.rows)

    @classmethod
    def load(cls, path: Path) -> "Prepared":
        with np.load(path, allow_pickle=False) as file:
            return cls(file["images"], file["labels"], file["splits"], file["rows"])


@dataclass(frozen=True)
class Predictions:
    """The answers on the test split, as `evaluate` writes them for `promote`."""

    labels: Digits  # n
    probabilities: NDArray[np.floating]  # n x 10, of the trained network
    baselines: Mapping[str, Digits]  # n digits of each baseline, by its name

    def save(self, path: Path) -> None:
        with stage.writing(path) as half:
            np.savez(half, labels=self.labels, probabilities=self.probabilities, **self.baselines)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        return cls(arrays.pop("labels"), arrays.pop("probabilities"), arrays)
