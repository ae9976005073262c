"""Refuses data that no model should be trained on, and names the rows."""

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from pydantic import Field

from pipelines import paths, stage
from pipelines.artefacts import Images, Source
from pipelines.stage import StageError

ROWS_SHOWN: Final = 10  # rows that a message names; the report names all
SIZES_SHOWN: Final = 10  # of the images, in the report


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
    sides = f"allowed are sides of {params.min_side} to {params.max_side}"
    found = []
    if isinstance(images, list):
        wrong = [row for row, image in enumerate(images) if not _fits(image.shape, params)]
        if wrong:
            found.append(_rows(source, "shape", wrong, f"images of another size, {sides}"))
    elif images.ndim != 3:
        found.append(Finding("shape", f"images have shape {images.shape}, expected n x height x width", []))
    elif not _fits(images.shape[1:], params):
        found.append(Finding("shape", f"images are {images.shape[1]}x{images.shape[2]}, {sides}", []))
    if not isinstance(images, list) and images.dtype != np.uint8:
        found.append(Finding("dtype", f"images are {images.dtype}, expected uint8", []))
    if not np.issubdtype(labels.dtype, np.integer):
        found.append(Finding("dtype", f"labels are {labels.dtype}, expected integers", []))
    if labels.ndim != 1 or source.is_test.ndim != 1:
        shapes = f"labels have shape {labels.shape}, test flags {source.is_test.shape}"
        found.append(Finding("shape", f"{shapes}, expected n", []))
    elif (isinstance(images, list) or images.ndim) and not len(images) == len(labels) == len(source.is_test):
        counts = f"{len(images)} images, {len(labels)} labels, {len(source.is_test)} test flags"
        found.append(Finding("length", f"{counts}: expected equal numbers", []))
    return found


def _fits(shape: tuple[int, ...], params: ValidateParams) -> bool:
    return all(params.min_side <= side <= params.max_side for side in shape)


def _content(source: Source, params: ValidateParams) -> list[Finding]:
    images, labels, classes = source.images, source.labels, len(source.classes)
    found = []
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        found.append(_rows(source, "labels", wrong.tolist(), f"labels outside 0 to {classes - 1}"))
    counts = np.bincount(labels[(labels >= 0) & (labels < classes)].astype(int), minlength=classes)
    for name, count in zip(source.classes, counts.tolist(), strict=True):
        if count < params.min_per_class:
            few = f"class {name} has {count} images, at least {params.min_per_class} are needed"
            found.append(Finding("classes", few, []))
    if len(images):
        blank = [row for row, image in enumerate(images) if int(image.max()) - image.min() < params.min_contrast]
        if blank:
            problem = f"images with under {params.min_contrast} grey levels of contrast"
            found.append(_rows(source, "range", blank, problem))
        found += _duplicates(source, params.max_duplicates)
    return found


def _duplicates(source: Source, limit: float) -> list[Finding]:
    images, labels = source.images, source.labels
    seen: dict[tuple[tuple[int, ...], bytes], int] = {}
    first = np.array([seen.setdefault((image.shape, image.tobytes()), row) for row, image in enumerate(images)])
    repeated = np.flatnonzero(first != np.arange(len(images)))
    contradicted = repeated[labels[repeated] != labels[first[repeated]]]
    found = []
    if len(contradicted):
        problem = "images that repeat another one with a different label"
        found.append(_rows(source, "labels", contradicted.tolist(), problem))
    share = len(repeated) / len(images)
    if share > limit:
        problem = f"images ({share:.1%}) repeat another one, allowed are {limit:.1%}"
        found.append(_rows(source, "duplicates", repeated.tolist(), problem))
    return found


def _rows(source: Source, check: str, rows: list[int], problem: str) -> Finding:
    """A finding that names the first rows, or the files that they come from."""
    named = [source.files[row] if source.files else str(row) for row in rows[:ROWS_SHOWN]]
    shown = ("" if source.files else "rows ") + ", ".join(named) + (", …" if len(rows) > ROWS_SHOWN else "")
    return Finding(check, f"{len(rows):,} {problem}: {shown}", rows)


def _sizes(images: Images) -> list[str]:
    return sorted({"x".join(map(str, image.shape)) for image in images})


def main() -> None:
    params = ValidateParams.load()
    source = Source.load(paths.RAW)
    found = findings(source, params)
    report = {
        "images": len(source.images),
        "sizes": _sizes(source.images)[:SIZES_SHOWN],
        "per_class": None if found else dict(zip(source.classes, np.bincount(source.labels).tolist(), strict=True)),
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
