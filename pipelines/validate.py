"""Refuses data that no model should be trained on, and names the rows."""

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from model.labels import CLASSES
from pipelines import paths, stage
from pipelines.artefacts import Source
from pipelines.stage import StageError

ROWS_SHOWN: Final = 10  # rows that a message names; the report names all


class ValidateParams(stage.Params, section="validate"):
    """The bounds that data must keep."""

    min_side: int = Field(ge=2, le=4096, description="pixels")
    max_side: int = Field(ge=2, le=4096, description="pixels")
    min_per_class: int = Field(ge=2, description="images")
    min_contrast: int = Field(ge=1, le=255, description="grey levels between an image's darkest and brightest pixel")
    max_duplicates: float = Field(ge=0, le=1, description="share of the images that repeat another one")


@dataclass(frozen=True)
class Finding:
    """One problem of the data."""

    check: str
    message: str
    rows: list[int]


def findings(source: Source, params: ValidateParams) -> list[Finding]:
    """The problems of `source`; none if it may be used. If shape or dtype is wrong, nothing else can be checked."""
    return _form(source, params) or _content(source, params)


def _form(source: Source, params: ValidateParams) -> list[Finding]:
    images, labels = source.images, source.labels
    found = []
    if images.ndim != 3:
        found.append(Finding("shape", f"images have shape {images.shape}, expected n x height x width", []))
    elif not all(params.min_side <= side <= params.max_side for side in images.shape[1:]):
        size = f"{images.shape[1]}x{images.shape[2]}"
        found.append(
            Finding("shape", f"images are {size}, allowed are sides of {params.min_side} to {params.max_side}", [])
        )
    if images.dtype != np.uint8:
        found.append(Finding("dtype", f"images are {images.dtype}, expected uint8", []))
    if not np.issubdtype(labels.dtype, np.integer):
        found.append(Finding("dtype", f"labels are {labels.dtype}, expected integers", []))
    if labels.ndim != 1 or source.is_test.ndim != 1:
        shapes = f"labels have shape {labels.shape}, test flags {source.is_test.shape}"
        found.append(Finding("shape", f"{shapes}, expected n", []))
    elif images.ndim and not len(images) == len(labels) == len(source.is_test):
        counts = f"{len(images)} images, {len(labels)} labels, {len(source.is_test)} test flags"
        found.append(Finding("length", f"{counts}: expected equal numbers", []))
    return found


def _content(source: Source, params: ValidateParams) -> list[Finding]:
    images, labels = source.images, source.labels
    found = []
    wrong = np.flatnonzero((labels < 0) | (labels >= CLASSES))
    if len(wrong):
        found.append(_rows("labels", wrong, f"labels outside 0 to {CLASSES - 1}"))
    counts = np.bincount(labels[(labels >= 0) & (labels < CLASSES)].astype(int), minlength=CLASSES)
    for digit in np.flatnonzero(counts < params.min_per_class):
        few = f"class {digit} has {counts[digit]} images, at least {params.min_per_class} are needed"
        found.append(Finding("classes", few, []))
    if len(images):
        flat = images.reshape(len(images), -1)
        contrast = flat.max(axis=1).astype(int) - flat.min(axis=1)
        blank = np.flatnonzero(contrast < params.min_contrast)
        if len(blank):
            found.append(_rows("range", blank, f"images with under {params.min_contrast} grey levels of contrast"))
        found += _duplicates(flat, labels, params.max_duplicates)
    return found


def _duplicates(flat: NDArray[np.uint8], labels: NDArray[np.integer], limit: float) -> list[Finding]:
    seen: dict[bytes, int] = {}
    first = np.array([seen.setdefault(image.tobytes(), row) for row, image in enumerate(flat)])
    repeated = np.flatnonzero(first != np.arange(len(flat)))
    contradicted = repeated[labels[repeated] != labels[first[repeated]]]
    found = []
    if len(contradicted):
        found.append(_rows("labels", contradicted, "images that repeat another one with a different label"))
    share = len(repeated) / len(flat)
    if share > limit:
        found.append(_rows("duplicates", repeated, f"images ({share:.1%}) repeat another one, allowed are {limit:.1%}"))
    return found


def _rows(check: str, rows: NDArray[np.integer], problem: str) -> Finding:
    shown = ", ".join(map(str, rows[:ROWS_SHOWN].tolist())) + (", …" if len(rows) > ROWS_SHOWN else "")
    return Finding(check, f"{len(rows):,} {problem}: rows {shown}", rows.tolist())


def main() -> None:
    params = ValidateParams.load()
    source = Source.load(paths.RAW)
    found = findings(source, params)
    report = {
        "shape": list(source.images.shape),
        "per_class": np.bincount(source.labels, minlength=CLASSES).tolist() if not found else None,
        "provenance": source.provenance,
        "findings": [asdict(finding) for finding in found],
    }
    stage.write_json(paths.VALIDATION, report)
    if found:
        raise StageError(f"{paths.RAW} is refused: {'; '.join(finding.message for finding in found)}"
                         f" (report: {paths.VALIDATION})")  # fmt: skip
    print(f"validate: {len(source.images):,} images pass")


if __name__ == "__main__":
    stage.run(main)
