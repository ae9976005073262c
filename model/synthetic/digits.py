"""Synthetic digits: the styles of `model.synthetic.styles` with random variation, as if many people wrote them.

All images of a style are drawn together. One matrix turns their jittered points into curves, because a curve is linear
in its points. The pen is a disc that moves along the curve.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline

from model.canonical import Pixels, canonical_batch
from model.labels import DIGITS
from model.synthetic.styles import STYLES, Style

Point: TypeAlias = tuple[float, float]
Floats: TypeAlias = NDArray[np.float64]
Labelled: TypeAlias = tuple[Pixels, NDArray[np.uint8]]  # n x 28 x 28 canonical images, n labels
Seed: TypeAlias = int | Sequence[int]

SIZES: Final = (8, 12, 16, 20, 28, 40)  # pixels, the longer side of a digit: from coarse to fine scans
SIZE_SHARES: Final = (0.05, 0.07, 0.13, 0.35, 0.3, 0.1)
MARGIN: Final = 2  # pixels around the digit
SPACING: Final = 0.028  # between two discs along a stroke, as a share of the digit: about a pixel in the common sizes


@dataclass(frozen=True)
class Hand:
    """How much writers vary a style. Every image gets random amounts. Lengths are shares of the digit's box."""

    jitter: float = 0.04  # of each point, standard deviation
    lift: float = 0.03  # of each stroke as a whole, standard deviation
    short: float = 0.1  # the greatest share of a stroke that is missing at either end
    swell: float = 0.25  # log of the exponent that widens one half of the box against the other, standard deviation
    bend: float = 0.04  # standard deviation
    aspect: float = 0.25  # log of width over height, standard deviation
    slant: tuple[float, float] = (0.12, 0.2)  # sideways per height, mean (to the right) and standard deviation
    rotation: float = 6  # degrees, standard deviation
    pen: tuple[float, float] = (0.05, 0.27)  # width, log-uniform
    pressure: float = 0.3  # the greatest change of the pen's width along a stroke, as a share of it
    bilevel: float = 0.15  # share of images without grey levels


HAND: Final = Hand()  # a few per cent of its digits are illegible: real handwriting varies as much
CAREFUL: Final = Hand(jitter=0.03, short=0.06, swell=0.18, aspect=0.2, slant=(0.12, 0.18))  # about 1 % are illegible


def write(
    count: int,
    seed: Seed,
    hand: Hand = HAND,
    classes: Sequence[str] = DIGITS,
    styles: Mapping[int, Sequence[Style]] = STYLES,
) -> Labelled:
    """`count` canonical digits of `classes` in `styles`, in random order. Equal seeds give equal images.

    `canonical` refuses a digit in some thousands; there are then fewer than `count`.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(classes), size=count).astype(np.uint8)
    pictures: list[Pixels] = [np.empty(0, np.uint8)] * count
    for label, digit in enumerate(classes):
        known = styles[int(digit)]
        rows = np.flatnonzero(labels == label)
        weights = np.array([style.weight for style in known])
        chosen = rng.choice(len(known), len(rows), p=weights / weights.sum())
        for number, style in enumerate(known):
            of_style = rows[chosen == number]
            for at, picture in written(style, len(of_style), hand, rng):
                pictures[of_style[at]] = picture
    images, refused = canonical_batch(pictures)
    kept = np.delete(np.arange(count), list(refused))
    return images[kept], labels[kept]


def written(style: Style, count: int, hand: Hand, rng: Generator) -> Iterator[tuple[int, Pixels]]:
    """Yields (index, picture) `count` times: bright ink on 0, uint8, in the sizes of `SIZES`."""
    path = _path(style.strokes)
    points = np.repeat(path.points[None], count, axis=0)
    points += rng.normal(0, hand.jitter, points.shape) * rng.uniform(0, 2, (count, 1, 1))
    points += rng.normal(0, hand.lift, (count, path.strokes, 2))[:, path.stroke_of_point]
    curves = _varied(path.weights @ points, hand, rng)

    ends = rng.uniform(-hand.short, hand.short, (count, path.strokes, 2)).clip(0)[:, path.stroke]
    drawn = (path.place >= ends[..., 0]) & (path.place <= 1 - ends[..., 1])
    thinnest, thickest = hand.pen
    pen = np.exp(rng.uniform(np.log(thinnest), np.log(thickest * style.pen), (count, 1)))
    swing, phase, turns = (rng.uniform(0, most, (count, 1)) for most in (hand.pressure, 2 * np.pi, 1.5))
    radius = pen / 2 * (1 + swing * np.sin(phase + 2 * np.pi * turns * path.place))
    sizes = rng.choice(SIZES, count, p=SIZE_SHARES)
    bilevel = rng.random(count) < hand.bilevel
    for size in SIZES:
        rows = np.flatnonzero(sizes == size)
        for some in np.array_split(rows, -(-len(rows) // 64)) if len(rows) else ():
            ink = _inked(*_placed(curves[some], radius[some], drawn[some], size, rng), size + 2 * MARGIN)
            ink = np.where(bilevel[some, None, None] & (size >= 12), ink >= 0.5, ink)
            yield from zip(some, np.rint(ink * 255).astype(np.uint8), strict=True)


def _varied(curves: Floats, hand: Hand, rng: Generator) -> Floats:
    """Gives each of n x k x 2 curves in the box 0..1 its own proportions, bend, slant and rotation."""
    n = len(curves)

    def normal(spread: float) -> Floats:
        return rng.normal(0, spread, (n, 1))

    x, y = (
        curves[..., axis].clip(0.001, None) ** np.exp(normal(hand.swell * share)) for axis, share in ((0, 0.5), (1, 1))
    )
    x, y = x + normal(hand.bend) * np.sin(np.pi * y), y + normal(hand.bend) * np.sin(np.pi * x)
    x = x * np.exp(normal(hand.aspect)) * 0.75
    x = x - (y - 0.5) * rng.normal(*hand.slant, (n, 1))
    turn = np.radians(normal(hand.rotation))
    return np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=-1)


def _placed(
    curves: Floats, radius: Floats, drawn: NDArray[np.bool_], size: int, rng: Generator
) -> tuple[Floats, Floats]:
    """Scales curves and radii to pixels, so that the longer side of the ink is `size`. Points that are not drawn get a
    negative radius."""
    low = np.where(drawn[..., None], curves, np.inf).min(axis=1, keepdims=True)
    high = np.where(drawn[..., None], curves, -np.inf).max(axis=1, keepdims=True)
    long_side = (high - low).max(axis=2, keepdims=True)
    scale = size / (long_side + 2 * radius.max(axis=1)[:, None, None] * long_side)
    centre = size / 2 + MARGIN + rng.uniform(-0.5, 0.5, (len(curves), 1, 2))
    radius = np.where(drawn, np.maximum(radius * long_side[..., 0] * scale[..., 0], 0.6), -9.0)
    return (curves - (low + high) / 2) * scale + centre, radius


def _inked(curves: Floats, radius: Floats, side: int) -> NDArray[np.float32]:
    """n x side x side, 0..1: the share of each pixel that is under a disc of `radius` moving along n x k x 2 `curves`.

    The squared distance to the centre of a disc is a sum over the two axes. At the edge of the disc it equals the
    squared radius. So the least difference of the two over all discs takes one addition and one minimum for each pixel
    and disc.
    """
    pixels = np.arange(side, dtype=np.float32) + np.float32(0.5)
    x, y = (np.square(pixels - curves[..., axis, None].astype(np.float32)) for axis in (0, 1))  # n x k x side
    y -= np.square(radius.astype(np.float32))[..., None] * np.sign(radius.astype(np.float32))[..., None]
    power = np.full((len(curves), side, side), np.inf, np.float32)
    sum_ = np.empty_like(power)
    for disc in range(curves.shape[1]):
        np.add(y[:, disc, :, None], x[:, disc, None, :], out=sum_)
        np.minimum(power, sum_, out=power)
    mean = np.where(radius > 0, radius, 0).sum(axis=1) / (radius > 0).sum(axis=1)
    mean = mean.astype(np.float32)[:, None, None]
    distance = np.sqrt(np.maximum(power + mean * mean, 0)) - mean
    ink: NDArray[np.float32] = (np.float32(0.5) - distance).clip(0, 1)
    return ink


@dataclass(frozen=True)
class _Path:
    """A style, parsed: `weights @ points` are the places along its strokes."""

    points: Floats  # p x 2, 0..1
    weights: Floats  # k x p
    place: Floats  # k, 0..1, along its own stroke
    stroke: NDArray[np.intp]  # k
    stroke_of_point: NDArray[np.intp]  # p

    @property
    def strokes(self) -> int:
        return int(self.stroke[-1]) + 1


@cache
def _path(strokes: str) -> _Path:
    points: list[Point] = []
    stroke_of_point: list[int] = []
    blocks: list[tuple[list[int], Floats, int]] = []  # points of a smooth part, weights for them, stroke
    for number, line in enumerate(strokes.split("|")):
        part: list[int] = []
        for word in line.split():
            x, y = word.rstrip("!").split(",")
            points.append((float(x) / 100, float(y) / 100))
            stroke_of_point.append(number)
            part.append(len(points) - 1)
            if word.endswith("!"):
                blocks.append((part, _spline(np.array([points[i] for i in part])), number))
                part = [part[-1]]
        blocks.append((part, _spline(np.array([points[i] for i in part])), number))
    stroke = np.concatenate([np.full(len(block), number) for _, block, number in blocks])
    weights = np.zeros((len(stroke), len(points)))
    row = 0
    for part, block, _ in blocks:
        weights[row : row + len(block), part] = block
        row += len(block)
    place = np.concatenate([np.linspace(0, 1, count) for count in np.bincount(stroke)])
    return _Path(np.array(points), weights, place, stroke, np.array(stroke_of_point))


def _spline(points: Floats) -> Floats:
    """k x p: the weights of p points at k places on a cubic spline through them. The places are `SPACING` apart."""
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    spline = make_interp_spline(length, np.eye(len(points)), k=min(3, len(points) - 1))
    weights: Floats = spline(np.linspace(0, length[-1], 1 + round(length[-1] / SPACING)))
    return weights


def draw(digit: int, *, size: int, pen: float, canvas: tuple[int, int], at: Point = (0.5, 0.5)) -> NDArray[np.float32]:
    """Draws `digit` in its first style, without variation. Returns height x width, ink 1 on 0, anti-aliased.

    The digit is `size` pixels tall. The pen is round, and `pen` times as wide as the digit is tall. The middle of the
    digit is at the share `at` of `canvas` (width, height).
    """
    path = _path(STYLES[digit][0].strokes)
    side = max(canvas)
    curve = (path.weights @ path.points) * size + np.array(canvas) * at - size / 2
    return _inked(curve[None], np.full((1, len(curve)), pen * size / 2), side)[0, : canvas[1], : canvas[0]]
