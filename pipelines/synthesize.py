"""Makes synthetic digits and pictures without a digit. A small source of real images has too few of both."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from PIL import Image
from pydantic import Field
from tqdm import tqdm

from model.canonical import SIDE, Pixels
from model.labels import DIGITS
from model.synthetic import CAREFUL, Labelled, write
from model.synthetic.outliers import taught
from model.synthetic.styles import without
from pipelines import paths, stage
from pipelines.artefacts import Prepared, Source, Split
from pipelines.stage import StageError

CHUNK = 4_000  # images that one process makes at a time


class SynthesizeParams(stage.Params, section="synthesize"):
    """How many synthetic images there are."""

    digits: int = Field(ge=0, le=10_000_000, description="to train on")
    outliers: int = Field(ge=0, le=10_000_000, description="pictures without a digit, to train on")
    validation: int = Field(ge=0, le=1_000_000, description="digits to calibrate on")
    without: tuple[str, ...] = Field(description="words; a style whose name has one of them is not used")
    seed: int = Field(ge=0)


def synthesize(params: SynthesizeParams, classes: tuple[str, ...]) -> Prepared:
    """Synthetic images, labels and splits in the form of `prepare`. None is in the test split.

    The label of an outlier is the number of classes. Each chunk of images has its own seed, and one process for each
    core makes them: the number of cores does not change the images. The few images that `canonical` refuses are left
    out. Raises `StageError` if a class has no style to write it in.
    """
    try:
        styles = without(params.without)
    except ValueError as error:
        raise StageError(f"synthesize.without: {error}") from None
    unknown = [name for name in classes if name not in DIGITS]
    if unknown and (params.digits or params.validation):
        raise StageError(f"there are styles for digits, not for {', '.join(unknown)}; set synthesize.digits and"
                         " synthesize.validation to 0")  # fmt: skip
    wanted: tuple[tuple[Callable[..., Labelled], int, Split], ...] = (
        (taught, params.outliers, Split.TRAIN),  # first, because they take longest
        (partial(write, styles=styles), params.digits, Split.TRAIN),
        (
            partial(write, hand=CAREFUL, styles=styles),
            params.validation,
            Split.VALIDATION,
        ),  # legible ones, to calibrate on
    )
    chunks: list[partial[Labelled]] = []
    splits: list[Split] = []
    for draw, count, split in wanted:
        for start in range(0, count, CHUNK):
            seed = (params.seed, len(chunks))
            chunks.append(partial(draw, min(CHUNK, count - start), seed=seed, classes=classes))
            splits.append(split)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        made = list(_with_progress(pool.map(_run, chunks), sum(count for _, count, _ in wanted)))
    nothing = (np.empty((0, SIDE, SIDE), np.uint8), np.empty(0, np.uint8))
    images, labels = (np.concatenate(parts) for parts in zip(nothing, *made, strict=True))
    split_of_image = np.repeat(np.array(splits, np.uint8), [len(labels) for _, labels in made])
    return Prepared(images, labels, classes, split_of_image, np.arange(len(images)))


def _run(chunk: "partial[Labelled]") -> Labelled:
    return chunk()


def _with_progress(chunks: Iterator[Labelled], total: int) -> Iterator[Labelled]:
    with tqdm(total=total, desc="synthesize", unit="image", unit_scale=True) as bar:
        for chunk in chunks:
            bar.update(len(chunk[1]))
            yield chunk


def sheet(synthetic: Prepared, columns: int = 40, rows: int = 3) -> Image.Image:
    """A picture of the first images of each class that has any, then of outliers."""
    lines: list[Pixels] = []
    outlier = len(synthetic.classes)
    for label in sorted({*synthetic.labels.tolist(), outlier}):
        chosen = (synthetic.labels == label) & (synthetic.splits == Split.TRAIN)
        some = synthetic.images[chosen][: columns * rows]
        blank = np.zeros((columns * rows - len(some), SIDE, SIDE), np.uint8)
        lines.append(np.concatenate([some, blank]).reshape(rows, columns, SIDE, SIDE))
    grid = np.concatenate(lines).transpose(0, 2, 1, 3).reshape(-1, columns * SIDE)
    return Image.fromarray(grid)


def main() -> None:
    params = SynthesizeParams.load()
    synthetic = synthesize(params, Source.load(paths.RAW).classes)
    synthetic.save(paths.SYNTHETIC)
    with stage.writing(paths.SHEET) as half:
        sheet(synthetic).save(half, "PNG", optimize=True)
    styles = sum(map(len, without(params.without).values()))
    print(f"synthesize: {params.digits:,} digits in {styles} styles and {params.outliers:,} pictures without a digit to"
          f" train on, {params.validation:,} digits to calibrate on")  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
