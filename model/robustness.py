"""The distortions that models are judged by: shift, rotation, scale and others, each with stated severities.

Training uses other distortions, those of `model.augment`. The ones here are fixed: each has exactly the severity that
is written below, so accuracy can be drawn over severity. After Mu and Gilmer 2019 (MNIST-C), and Hendrycks and
Dietterich 2019.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_array

from model.canonical import SIDE, Pixels, canonical_batch

Digits: TypeAlias = NDArray[np.integer]


@dataclass(frozen=True)
class Distortion:
    """One way of making a digit harder to read."""

    unit: str
    none: float  # the severity that changes nothing; it is a point of every curve
    severities: tuple[float, ...]  # the others, in order


DISTORTIONS: Final[Mapping[str, Distortion]] = {
    "shift": Distortion("pixels, in any direction", 0, (1, 2, 3, 4, 5, 6, 7, 8)),
    "rotation": Distortion("degrees, either way", 0, (10, 20, 30, 40)),
    "scale": Distortion("times the size", 1, (0.5, 0.7, 0.85, 1.2, 1.4)),
    "stroke": Distortion("pixels wider (below 0: narrower)", 0, (-2, -1, 1, 2, 3)),
    "noise": Distortion("grey levels of 255, standard deviation", 0, (16, 32, 48, 64)),
    "blur": Distortion("pixels, standard deviation", 0, (0.5, 1, 1.5, 2)),
    "occlusion": Distortion("pixels, side of a square of paper over the ink", 0, (4, 6, 8, 10)),
    "contrast": Distortion("share of the full contrast, around mid-grey", 1, (0.75, 0.5, 0.25, 0.15)),
}

CANVAS: Final = 44  # pixels: a digit that moves by 8 in any direction stays complete
MARGIN: Final = (CANVAS - SIDE) // 2
INK: Final = 20  # pixels, the side of the square in the middle of an image that holds the digit


def distorted(images: Pixels, name: str, severity: float, *, seed: int) -> Pixels:
    """Puts canonical images, n x 28 x 28 uint8, into the middle of 44 x 44 canvases and distorts them there.

    `name` is one of `DISTORTIONS`. `severity` may be any number in its unit; a shift is at most 8. With the same
    `seed`, an image gets the same direction, place or noise in every call and at every severity.
    """
    canvases = np.pad(images, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    if severity == DISTORTIONS[name].none:
        return canvases
    rng = np.random.default_rng([seed, list(DISTORTIONS).index(name)])
    match name:
        case "shift":
            result = _shifted(images, round(severity), rng)
        case "rotation":
            result = _rotated(canvases, severity, rng)
        case "scale":
            result = _resampled(canvases, np.eye(2) / severity)
        case "stroke":
            result = _restroked(canvases, round(severity))
        case "noise":
            result = _grey(canvases + rng.standard_normal(canvases.shape, np.float32) * np.float32(severity))
        case "blur":
            result = np.asarray(gaussian_filter(canvases, severity, axes=(1, 2)))
        case "occlusion":
            result = _occluded(canvases, severity, rng)
        case _:
            result = _grey(np.float32(127.5) + (canvases - np.float32(127.5)) * np.float32(severity))
    return result


def bare(canvases: Pixels) -> Pixels:
    """n x 44 x 44 -> n x 28 x 28: the middle, as a network sees it without `canonical`."""
    return canvases[:, MARGIN:-MARGIN, MARGIN:-MARGIN]


def product(canvases: Pixels) -> Pixels:
    """n x 44 x 44 -> n x 28 x 28: what the network sees in the product. Images that `canonical` refuses are blank."""
    seen, _ = canonical_batch(canvases)
    return seen


VIEWS: Final[Mapping[str, Callable[[Pixels], Pixels]]] = {"bare": bare, "canonical": product}


@dataclass(frozen=True)
class Point:
    """A point of a curve: the share of the images that is read rightly."""

    distortion: str
    view: str
    severity: float
    accuracy: float


def curves(
    images: Pixels,
    labels: NDArray[np.uint8],
    read: Callable[[Pixels], Digits],
    *,
    seed: int,
    names: Sequence[str] = tuple(DISTORTIONS),
) -> Iterator[Point]:
    """The points of every curve, in order of severity. `read` gives the digits of n x 28 x 28 images."""
    undistorted = np.pad(images, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)))
    clean = {view: _accuracy(read(see(undistorted)), labels) for view, see in VIEWS.items()}
    for name in names:
        distortion = DISTORTIONS[name]
        for severity in sorted((distortion.none, *distortion.severities)):
            if severity == distortion.none:
                for view, accuracy in clean.items():
                    yield Point(name, view, severity, accuracy)
                continue
            canvases = distorted(images, name, severity, seed=seed)
            for view, see in VIEWS.items():
                yield Point(name, view, severity, _accuracy(read(see(canvases)), labels))


def points(names: Sequence[str] = tuple(DISTORTIONS)) -> int:
    """The number of points that `curves` gives."""
    return len(VIEWS) * sum(1 + len(DISTORTIONS[name].severities) for name in names)


def _accuracy(digits: Digits, labels: NDArray[np.uint8]) -> float:
    return float((digits == labels).mean())


def _grey(levels: NDArray[np.float32]) -> Pixels:
    whole: Pixels = np.rint(levels.clip(0, 255)).astype(np.uint8)
    return whole


def _shifted(images: Pixels, by: int, rng: np.random.Generator) -> Pixels:
    """Moves each image by `by` whole pixels along one axis, and by at most as much along the other."""
    n = len(images)
    far, near = by * rng.choice([-1, 1], n), np.rint(by * rng.uniform(-1, 1, n)).astype(int)
    upright = rng.random(n) < 0.5
    down, right = np.where(upright, far, near), np.where(upright, near, far)
    canvases = np.zeros((n, CANVAS, CANVAS), np.uint8)
    rows = (MARGIN + down)[:, None] + np.arange(SIDE)
    columns = (MARGIN + right)[:, None] + np.arange(SIDE)
    canvases[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]] = images
    return canvases


def _rotated(canvases: Pixels, degrees: float, rng: np.random.Generator) -> Pixels:
    """Rotates about half of the images to the left and the others to the right."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    left = rng.random(len(canvases)) < 0.5
    out = np.empty_like(canvases)
    out[left], out[~left] = _resampled(canvases[left], turn), _resampled(canvases[~left], turn.T)
    return out


def _resampled(canvases: Pixels, linear: NDArray[np.float64]) -> Pixels:
    """Resamples every canvas bilinearly, at `linear` (2 x 2) times the offset of each pixel from the middle. Beyond the
    edge is paper.

    All canvases are resampled in the same way, so one product with a sparse matrix of 4 weights a pixel is enough.
    10,000 canvases take 0.3 s on one core; Pillow or scipy, which rotate one after the other, take 1.5 s.
    """
    middle = (CANVAS - 1) / 2
    way = np.indices((CANVAS, CANVAS)).reshape(2, -1) - middle
    source = linear @ way + middle
    corner = np.floor(source).astype(int)
    weights = csr_array((CANVAS**2, CANVAS**2), dtype=np.float32)
    for step in np.ndindex(2, 2):
        place = corner + np.array(step)[:, None]
        weight = np.prod(1 - np.abs(source - place), axis=0).astype(np.float32)
        inside = np.flatnonzero(((place >= 0) & (place < CANVAS)).all(axis=0))
        row = place[0, inside] * CANVAS + place[1, inside]
        weights = weights + csr_array((weight[inside], (row, inside)), shape=weights.shape)
    flat = canvases.reshape(-1, CANVAS**2).astype(np.float32)
    return _grey(np.asarray(flat @ weights)).reshape(canvases.shape)


def _restroked(canvases: Pixels, by: int) -> Pixels:
    """Makes strokes `by` pixels wider, half of it on each side. It works at twice the size, to move half pixels."""
    fine = canvases.repeat(2, axis=1).repeat(2, axis=2)
    for _ in range(abs(by)):
        fine = _spread(fine, np.maximum if by > 0 else np.minimum)
    four = fine[:, ::2].astype(np.uint16) + fine[:, 1::2]
    mean: Pixels = ((four[:, :, ::2] + four[:, :, 1::2] + 2) // 4).astype(np.uint8)
    return mean


def _spread(images: Pixels, pick: Callable[..., Pixels]) -> Pixels:
    """The brightest (`np.maximum`) or darkest (`np.minimum`) of each pixel and its four neighbours."""
    out = images.copy()
    pick(out[:, 1:], images[:, :-1], out=out[:, 1:])
    pick(out[:, :-1], images[:, 1:], out=out[:, :-1])
    pick(out[:, :, 1:], images[:, :, :-1], out=out[:, :, 1:])
    pick(out[:, :, :-1], images[:, :, 1:], out=out[:, :, :-1])
    return out


def _occluded(canvases: Pixels, side: float, rng: np.random.Generator) -> Pixels:
    """Covers a square of each image with paper. The middle of the square is anywhere on the ink."""
    middle = (CANVAS - 1) / 2 + INK / 2 * rng.uniform(-1, 1, (2, len(canvases), 1))
    covered = np.abs(np.arange(CANVAS) - middle) < side / 2  # rows and columns of each
    return np.where(covered[0][:, :, None] & covered[1][:, None, :], np.uint8(0), canvases)
