"""The traffic of the measurements: pictures that the model did not train on, and what may happen to them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from zipfile import BadZipFile

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bench.handwriting import strokes_by_site
from model.canonical import Pixels, canonical_batch
from model.drift import Reference
from model.predictor import Predictor
from model.robustness import MARGIN, bare, distorted
from model.statistics import NAMES, measure
from model.synthetic import CAREFUL, written
from model.synthetic.styles import STYLES
from pipelines.artefacts import Labels, Prepared, Split
from pipelines.stage import StageError

BATCH: Final = 500
LEAST: Final = 200  # pictures in each half of the pool
SLASH: Final = 0.12  # the width of the slash through a zero, as a share of the picture's longer side of ink
SERIFS: Final = ("flagged", "long flag", "with a foot", "footed in one")
CONFIDENCE: Final = NAMES.index("confidence")


@dataclass(frozen=True)
class Measured:
    """What is watched of n pictures, and what is known of them."""

    values: NDArray[np.float64]  # n x len(NAMES)
    right: NDArray[np.bool_]  # n
    probabilities: NDArray[np.float32]  # n x classes

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: NDArray[np.integer] | slice) -> "Measured":
        return Measured(self.values[rows], self.right[rows], self.probabilities[rows])

    @property
    def error(self) -> float:
        """The share of wrong answers."""
        return 1 - float(self.right.mean())

    @classmethod
    def of(cls, predictor: Predictor, pixels: Pixels, labels: Labels) -> Self:
        """Asks the model about n x 28 x 28 `pixels`."""
        values, answers = [], []
        for at in range(0, len(pixels), BATCH):
            some = pixels[at : at + BATCH]
            answers.append(predictor.probabilities(some))
            values.append(measure(answers[-1], some, predictor.features(some)))
        probabilities = np.concatenate(answers)
        return cls(np.concatenate(values), probabilities.argmax(axis=1) == labels, probabilities)

    def reference(self) -> Reference:
        return Reference.of(self.values, self.right)


@dataclass(frozen=True)
class Pool:
    """Pictures that the model did not train on, in random order: one half is the reference, the other the traffic."""

    measured: Measured
    images: Pixels  # n x 28 x 28, canonical
    labels: Labels
    pen: Measured | None  # what is watched of pen strokes, if there are any

    @classmethod
    def of(cls, predictor: Predictor, prepared: Path, pen: Path | None = None) -> Self:
        """Reads the files that `prepare` wrote and that `bench.handwriting` reads. Raises `StageError`."""
        images, labels = untrained(prepared)
        rng = np.random.default_rng(0)
        order = rng.permutation(len(images))
        images, labels = images[order], labels[order]
        strokes = _pen_strokes(predictor, pen, rng) if pen else None
        return cls(Measured.of(predictor, images, labels), images, labels, strokes)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def half(self) -> int:
        return len(self) // 2

    @property
    def reference(self) -> Measured:
        return self.measured[: self.half]

    @property
    def traffic(self) -> Measured:
        return self.measured[self.half :]

    def changed(self, predictor: Predictor, change: "Change", view: str, most: int | None = None) -> Measured:
        """What is watched of the traffic, or of its first `most` pictures, after a change."""
        some = slice(self.half, self.half + most if most else None)
        return changed(predictor, self.images[some], self.labels[some], change, view)


def untrained(path: Path) -> tuple[Pixels, Labels]:
    """The pictures and labels of the validation and the test split. Raises `StageError`."""
    try:
        prepared = Prepared.load(path)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise StageError(f"{path} is not a file that prepare wrote: {error}") from None
    parts = [prepared.of(split) for split in (Split.VALIDATION, Split.TEST)]
    images, labels = (np.concatenate(found) for found in zip(*parts, strict=True))
    if len(images) < 2 * LEAST:
        raise StageError(f"{path} has {len(images):,} pictures outside the training split; needed are {2 * LEAST:,}")
    return images, labels


def _pen_strokes(predictor: Predictor, path: Path, rng: Generator) -> Measured:
    digits = [digit for site in strokes_by_site(path, None, rng).values() for digit in site]
    pixels, refused = canonical_batch([picture for picture, _ in digits])
    kept = np.delete(np.arange(len(digits)), list(refused))
    return Measured.of(predictor, pixels[kept], np.array([label for _, label in digits], np.uint8)[kept])


def _slashed(canvases: Pixels, labels: Labels, _rng: Generator) -> Pixels:
    """Draws a slash from the upper right to the lower left through each zero, a little longer than the digit."""
    out = canvases.copy()
    for row in np.flatnonzero(labels == 0):
        down, across = np.nonzero(canvases[row] > 127)
        low, high = np.array([down.min(), across.min()]), np.array([down.max(), across.max()])
        begin, end = np.array([low[0] - 1.0, high[1] + 1.0]), np.array([high[0] + 1.0, low[1] - 1.0])
        steps = np.linspace(begin, end, 60)[:, None, None]
        distance = np.sqrt(((np.indices(canvases.shape[1:]).transpose(1, 2, 0) - steps) ** 2).sum(axis=-1)).min(axis=0)
        pen = SLASH * float((high - low).max()) / 2
        ink = np.rint((pen + 0.5 - distance).clip(0, 1) * 255).astype(np.uint8)
        out[row] = np.maximum(out[row], ink)
    return out


def _serifed(canvases: Pixels, labels: Labels, rng: Generator) -> Pixels:
    """Writes other ones in the place of each one: with a flag, with a foot, or with both."""
    out = canvases.copy()
    rows = np.flatnonzero(labels == 1)
    styles = [style for style in STYLES[1] if style.name in SERIFS]
    for some, style in zip(np.array_split(rows, len(styles)), styles, strict=True):
        if len(some):
            pictures = [picture for _, picture in written(style, len(some), CAREFUL, rng)]
            out[some] = np.pad(canonical_batch(pictures)[0], ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    return out


def distortion(name: str, severity: float) -> "Change":
    """A distortion of `model.robustness`."""
    return lambda canvases, _labels, _rng: distorted(bare(canvases), name, severity, seed=0)


def _cut(canvases: Pixels, _labels: Labels, _rng: Generator) -> Pixels:
    """Only the upper half of the page has arrived."""
    out = canvases.copy()
    out[:, canvases.shape[1] // 2 :] = 0
    return out


Change = Callable[[Pixels, Labels, Generator], Pixels]  # n x 44 x 44 canvases and n labels -> other canvases
CHANGES: Final[Mapping[str, Change]] = {
    "slashed zeros": _slashed,
    "serif ones": _serifed,
    "thick pens": distortion("stroke", 3),
    "thin pens": distortion("stroke", -2),
    "inverted": lambda canvases, _labels, _rng: 255 - canvases,
    "noise": distortion("noise", 64),
    "rotation": distortion("rotation", 40),
    "transposed": lambda canvases, _labels, _rng: canvases.transpose(0, 2, 1),
    "cut off": _cut,
}
FLOOD: Final = 1  # the class that floods, in the shift of that name
GONE: Final = 7
MIXES: Final[Mapping[str, Callable[[Labels], NDArray[np.bool_]]]] = {
    "flood of ones": lambda labels: labels == FLOOD,
    "no sevens": lambda labels: labels != GONE,
    "one picture, resent": lambda labels: np.arange(len(labels)) == 0,
}


def seen(canvases: Pixels, view: str) -> tuple[Pixels, NDArray[np.intp]]:
    """What the network sees of n canvases in the view `bare` or `canonical`, and the rows that are not refused."""
    if view == "bare":
        return bare(canvases), np.arange(len(canvases))
    pixels, refused = canonical_batch(canvases)
    kept = np.delete(np.arange(len(canvases)), list(refused))
    return pixels[kept], kept


def changed(predictor: Predictor, images: Pixels, labels: Labels, change: Change, view: str) -> Measured:
    """What is watched of n x 28 x 28 `images` after a change of their canvases. Refused ones have no prediction."""
    canvases = np.pad(images, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    pixels, kept = seen(change(canvases, labels, np.random.default_rng(0)), view)
    return Measured.of(predictor, pixels, labels[kept])


def mixed(clean: Measured, shifted: Measured, share: float, clean_first: int, rng: Generator, length: int) -> Measured:
    """A stream of `length` pictures. After the first `clean_first`, each is a shifted one with probability `share`.

    No clean picture occurs twice while there are enough of them.
    """
    first = np.arange(length) < clean_first
    is_shifted = ~first & (rng.random(length) < share)
    rows = drawn(len(clean), length, rng)
    others = drawn(len(shifted), length, rng)

    def pick(name: str) -> NDArray[np.float64]:
        ours, theirs = getattr(clean, name)[rows], getattr(shifted, name)[others]
        chosen: NDArray[np.float64] = (
            np.where(is_shifted[:, None], theirs, ours) if ours.ndim > 1 else np.where(is_shifted, theirs, ours)
        )
        return chosen

    return Measured(pick("values"), pick("right").astype(bool), pick("probabilities").astype(np.float32))


def drawn(pool: int, count: int, rng: Generator) -> NDArray[np.intp]:
    """`count` rows of `pool`, in random order; each occurs again only when all have occurred."""
    rounds = [rng.permutation(pool) for _ in range(-(-count // pool))]
    return np.concatenate(rounds)[:count]
