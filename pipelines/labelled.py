"""The labels that people sent: the file that `feedback` writes, and `labels` and `promote` read.

A row is a label as it was sent. Several rows may be about one picture; at most one of them is taken.
"""

import io
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from model.canonical import SIDE
from pipelines import stage
from pipelines.stage import StageError

# Hashes and ids are hexadecimal digits; an empty one is unknown.
ROW: Final = np.dtype([
    ("id", "S32"),  # of the label; rows are in the order of their ids, which is the order of time
    ("prediction_id", "S32"),
    ("time", "f8"),  # of the label: seconds since 1970, UTC
    ("label", "u1"),  # a place in `classes`
    ("by", "S16"),  # who labelled
    ("role", "S16"),
    ("asked", "S16"),
    ("seconds", "f4"),  # that the person took; NaN: unknown
    ("blind", "i1"),  # whether the prediction was hidden; -1: unknown
    ("caller", "S16"),  # who sent the picture
    ("model_version", "S12"),
    ("predicted", "u1"),  # a place in `classes`
    ("confidence", "f4"),
])  # fmt: skip

# A person's label of a golden picture, whose answer is known.
GOLDEN: Final = np.dtype([("id", "S32"), ("prediction_id", "S32"), ("label", "u1"), ("by", "S16")])


class Verdict(IntEnum):
    """What becomes of a row."""

    PENDING = 0  # another label of the picture is needed
    TAKEN = 1
    HELD_BACK = 2  # it looks wrong, or its person or its day does
    MERGED = 3  # the picture has a taken or a newer row


@dataclass(frozen=True)
class Judged:
    """What `feedback` decided about each of n rows."""

    verdicts: NDArray[np.uint8]  # of `Verdict`
    reasons: NDArray[np.uint16]  # places in `texts`
    texts: tuple[str, ...]
    splits: NDArray[np.uint8]  # of `Split`: TRAIN, or TEST, which no model is trained on
    flagged: NDArray[np.bool_]  # confident learning reads another class; a trusted label is taken nevertheless


@dataclass(frozen=True)
class Feedback:
    """All labels that were read from the journal so far, and what was decided about them."""

    classes: tuple[str, ...]
    rows: NDArray[Any]  # n of `ROW`
    pixels: NDArray[np.uint8]  # n x 28 x 28, what the model saw
    probabilities: NDArray[np.float32]  # n x classes, of the model that answered
    golden: NDArray[Any]  # of `GOLDEN`, in the order of their ids
    versions: tuple[str, ...]  # of every model that was seen: their golden pictures may have been labelled
    judged: Judged

    @classmethod
    def empty(cls, classes: tuple[str, ...]) -> "Feedback":
        return cls(
            classes,
            np.empty(0, ROW),
            np.empty((0, SIDE, SIDE), np.uint8),
            np.empty((0, len(classes)), np.float32),
            np.empty(0, GOLDEN),
            (),
            unjudged(0),
        )

    @property
    def cursor(self) -> str:
        """The greatest id that was read; empty before the first one."""
        ids = [table["id"][-1].decode() for table in (self.rows, self.golden) if len(table)]
        return max(ids, default="")

    @property
    def taken(self) -> NDArray[np.intp]:
        """The rows that were taken, the oldest first."""
        return np.flatnonzero(self.judged.verdicts == Verdict.TAKEN)

    def with_judged(self, judged: Judged) -> "Feedback":
        return replace(self, judged=judged)

    def save(self, path: Path) -> bool:
        """Writes the file, unless it has the same bytes already. Returns whether it was written."""
        judged, file = self.judged, io.BytesIO()
        np.savez_compressed(
            file, classes=np.array(self.classes), rows=self.rows, pixels=self.pixels,
            probabilities=self.probabilities, golden=self.golden, versions=np.array(self.versions, "U12"),
            verdicts=judged.verdicts, reasons=judged.reasons, texts=np.array(judged.texts, str),
            splits=judged.splits, flagged=judged.flagged)  # fmt: skip
        data = file.getvalue()
        if path.exists() and path.read_bytes() == data:
            return False
        with stage.writing(path) as half:
            half.write_bytes(data)
        return True

    @classmethod
    def load(cls, path: Path) -> "Feedback":
        """Raises `StageError` if the file is not such an archive, or contradicts itself."""
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                judged = Judged(file["verdicts"], file["reasons"], tuple(file["texts"].tolist()), file["splits"],
                                file["flagged"])  # fmt: skip
                loaded = cls(tuple(file["classes"].tolist()), file["rows"], file["pixels"], file["probabilities"],
                             file["golden"], tuple(file["versions"].tolist()), judged)  # fmt: skip
        except FileNotFoundError:
            raise
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise StageError(f"{path} is not a file that feedback wrote: {error}") from None
        if problem := loaded.problem():
            raise StageError(f"{path} is damaged: {problem}")
        return loaded

    def problem(self) -> str | None:
        """What contradicts itself, or None."""
        count, classes, rows, judged = len(self.rows), len(self.classes), self.rows, self.judged
        shapes = {
            "rows": (rows.dtype == ROW, rows.shape == (count,)),
            "golden": (self.golden.dtype == GOLDEN, self.golden.ndim == 1),
            "pixels": (self.pixels.dtype == np.uint8, self.pixels.shape == (count, SIDE, SIDE)),
            "probabilities": (self.probabilities.dtype == np.float32, self.probabilities.shape == (count, classes)),
            "verdicts": (judged.verdicts.dtype == np.uint8, judged.verdicts.shape == (count,)),
            "reasons": (judged.reasons.dtype == np.uint16, judged.reasons.shape == (count,)),
            "splits": (judged.splits.dtype == np.uint8, judged.splits.shape == (count,)),
            "flagged": (judged.flagged.dtype == np.bool_, judged.flagged.shape == (count,)),
        }
        for name, fits in shapes.items():
            if not all(fits):
                return f"{name} has another shape or type than {count:,} labels of {classes} classes need"
        if count and max(rows["label"].max(), rows["predicted"].max()) >= classes:
            return f"a label is outside 0 to {classes - 1}"
        for table in (rows, self.golden):
            if (table["id"][1:] <= table["id"][:-1]).any():
                return "the ids of its labels do not ascend"
        if count and judged.reasons.max() >= len(judged.texts):
            return "a reason is missing"
        return None


def unjudged(count: int) -> Judged:
    """All pending, for training."""
    zeros = np.zeros(count, np.uint8)
    return Judged(zeros, zeros.astype(np.uint16), ("",) if count else (), zeros, zeros.astype(np.bool_))


def hard_cases(feedback: Feedback, used: NDArray[np.integer], most: int) -> NDArray[np.int64]:
    """The oldest `most` of the rows `used` that a model once read wrongly."""
    hard = np.sort(used[feedback.rows["label"][used] != feedback.rows["predicted"][used]])
    return hard[:most].astype(np.int64)
