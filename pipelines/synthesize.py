"""Digits that the project draws itself, and pictures of none: what the real images of a small source lack."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
from PIL import Image
from pydantic import Field
from tqdm import tqdm

from model.canonical import SIDE, Pixels
from model.labels import NO_DIGIT
from model.synthetic import CAREFUL, Drawn, write
from model.synthetic.outliers import taught
from model.synthetic.styles import STYLES
from pipelines import paths, stage
from pipelines.artefacts import Prepared, Split

CHUNK = 4_000  # images that one process draws at a time


class SynthesizeParams(stage.Params, section="synthesize"):
    """How many images are drawn."""

    digits: int = Field(ge=0, le=10_000_000, description="to train on")
    outliers: int = Field(ge=0, le=10_000_000, description="pictures without a digit, to train on")
    validation: int = Field(ge=0, le=1_000_000, description="digits to calibrate on")
    seed: int = Field(ge=0)


def synthesize(params: SynthesizeParams) -> Prepared:
    """Canonical images, labels and splits as `prepare` gives those of real images; never one for testing.

    An outlier's label is `NO_DIGIT`. Drawn in chunks of their own seeds, in as many processes as there are cores: their
    number changes nothing. `canonical` refuses a few, which are left out.
    """
    wanted: tuple[tuple[Callable[..., Drawn], int, Split], ...] = (
        (taught, params.outliers, Split.TRAIN),  # first, since they take longest
        (write, params.digits, Split.TRAIN),
        (partial(write, hand=CAREFUL), params.validation, Split.VALIDATION),  # how sure to be, of what can be read
    )
    chunks: list[partial[Drawn]] = []
    splits: list[Split] = []
    for draw, count, split in wanted:
        for start in range(0, count, CHUNK):
            chunks.append(partial(draw, min(CHUNK, count - start), seed=(params.seed, len(chunks))))
            splits.append(split)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        drawn = list(_watched(pool.map(_drawn, chunks), sum(count for _, count, _ in wanted)))
    nothing = (np.empty((0, SIDE, SIDE), np.uint8), np.empty(0, np.uint8))
    images, labels = (np.concatenate(parts) for parts in zip(nothing, *drawn, strict=True))
    of = np.repeat(np.array(splits, np.uint8), [len(labels) for _, labels in drawn])
    return Prepared(images, labels, of, np.arange(len(images)))


def _drawn(chunk: "partial[Drawn]") -> Drawn:
    return chunk()


def _watched(chunks: Iterator[Drawn], total: int) -> Iterator[Drawn]:
    with tqdm(total=total, desc="draw", unit="image", unit_scale=True) as bar:
        for chunk in chunks:
            bar.update(len(chunk[1]))
            yield chunk


def sheet(drawn: Prepared, columns: int = 40, rows: int = 3) -> Image.Image:
    """The first images of each digit, then outliers, to look at."""
    lines: list[Pixels] = []
    for label in (*STYLES, NO_DIGIT):
        some = drawn.images[(drawn.labels == label) & (drawn.splits == Split.TRAIN)][: columns * rows]
        blank = np.zeros((columns * rows - len(some), SIDE, SIDE), np.uint8)
        lines.append(np.concatenate([some, blank]).reshape(rows, columns, SIDE, SIDE))
    grid = np.concatenate(lines).transpose(0, 2, 1, 3).reshape(-1, columns * SIDE)
    return Image.fromarray(grid)


def main() -> None:
    params = SynthesizeParams.load()
    drawn = synthesize(params)
    drawn.save(paths.SYNTHETIC)
    with stage.writing(paths.SHEET) as half:
        sheet(drawn).save(half, "PNG", optimize=True)
    print(f"synthesize: {params.digits:,} digits in {sum(map(len, STYLES.values()))} styles and {params.outliers:,}"
          f" pictures without one to train on, {params.validation:,} digits to calibrate on")  # fmt: skip


if __name__ == "__main__":
    stage.run(main)
