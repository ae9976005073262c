"""Pictures without a digit: some teach the network to be unsure, others test whether it is.

The two sets have nothing in common. The network learns from signs, scribbles and pairs of digits, written like
synthetic digits. It is tested with printed letters, with scribbles that are made in another way, and with noise.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from model.canonical import Pixels, canonical_batch
from model.labels import DIGITS, are_digits
from model.synthetic.digits import HAND, Hand, Labelled, Seed, written
from model.synthetic.styles import SIGNS, STYLES, Style

SCRIBBLES: Final = 60  # different scribbles to learn from; each is written many times
# Without the letters that look like a digit: B 8, D O Q o 0, G b 6, I J i j l 1, S s 5, Z z 2, g q 9, y 4
LETTERS: Final = "ACEFHKLMNPRTUVWXYacdefhkmnprtuvwx"


def taught(count: int, seed: Seed, classes: Sequence[str] = DIGITS) -> Labelled:
    """At most `count` canonical pictures to learn from: signs, scribbles and pairs of digits, a third each.

    If a class is not a digit, all are scribbles: some signs are letters. Their label is the number of classes.
    """
    rng = np.random.default_rng(seed)
    scribbles = [Style("scribble", _scribble(rng)) for _ in range(SCRIBBLES)]
    pictures = _around_digits(scribbles, count, rng) if are_digits(classes) else _each(scribbles, count, rng)
    images, _ = seen(pictures)
    return rng.permutation(images), np.full(len(images), len(classes), np.uint8)


def _around_digits(scribbles: Sequence[Style], count: int, rng: Generator) -> list[Pixels]:
    pictures = [*_each(SIGNS, count - 2 * (count // 3), rng), *_each(scribbles, count // 3, rng)]
    digits = [style for styles in STYLES.values() for style in styles]
    halves = iter([*_each(digits, 2 * (count // 3), rng, Hand(bilevel=0))])
    return pictures + [_beside(left, right, rng) for left, right in zip(halves, halves, strict=True)]


def _each(styles: Sequence[Style], count: int, rng: Generator, hand: Hand = HAND) -> list[Pixels]:
    """`count` pictures in random order, about equally many of each style."""
    counts = np.bincount(rng.integers(len(styles), size=count), minlength=len(styles))
    pictures = [
        picture for style, n in zip(styles, counts, strict=True) for _, picture in written(style, int(n), hand, rng)
    ]
    return [pictures[at] for at in rng.permutation(len(pictures))]


def _scribble(rng: Generator) -> str:
    """One to three strokes through random points, some of them corners, in the notation of a style."""
    strokes = []
    for _ in range(rng.integers(1, 4)):
        points = rng.uniform(0, 100, (rng.integers(3, 9), 2))
        corner = rng.random(len(points)) < rng.choice([0, 0.5, 1])
        strokes.append(" ".join(f"{x:.0f},{y:.0f}{'!' * bool(at)}" for (x, y), at in zip(points, corner, strict=True)))
    return " | ".join(strokes)


def _beside(left: Pixels, right: Pixels, rng: Generator) -> Pixels:
    """Two pictures side by side in one, with about the same height."""
    height = 32
    sized = [Image.fromarray(one).resize((height, height)) for one in (left, right)]  # `written` gives squares
    gap = int(rng.integers(-4, 5))
    picture = np.zeros((height + 8, sized[0].width + sized[1].width + gap), np.uint8)
    low = int(rng.integers(0, 9))
    picture[4 : 4 + height, : sized[0].width] = np.asarray(sized[0])
    place = picture[low : low + height, -sized[1].width :]
    np.maximum(place, np.asarray(sized[1]), out=place)
    return picture


def letters(count: int, seed: int) -> list[Pixels]:
    """Pictures of printed letters, dark on white, in the typefaces that come with matplotlib."""
    rng = np.random.default_rng([seed, 2])
    pictures = []
    for at in range(count):
        letter = LETTERS[at % len(LETTERS)]
        font = _font(str(rng.choice(_typefaces())))
        left, top, right, bottom = (round(side) for side in font.getbbox(letter))
        picture = Image.new("L", (right - left + 8, bottom - top + 8), 255)
        ImageDraw.Draw(picture).text((4 - left, 4 - top), letter, fill=0, font=font)
        pictures.append(np.asarray(picture))
    return pictures


@cache
def _typefaces() -> tuple[str, ...]:
    from matplotlib import get_data_path  # noqa: PLC0415 - takes half a second, and only evaluation needs it

    folder = Path(get_data_path()) / "fonts" / "ttf"
    families = ("DejaVuSans", "DejaVuSerif", "STIXGeneral")
    return tuple(sorted(str(path) for path in folder.glob("*.ttf") if path.stem.split("-")[0] in families))


@cache
def _font(path: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, 40)


def scribbles(count: int, seed: int) -> list[Pixels]:
    """Pictures of a wandering pen: each step turns a little more or less than the step before."""
    rng = np.random.default_rng([seed, 3])
    pictures = []
    for _ in range(count):
        turns = np.cumsum(rng.normal(0, 0.06, 300)) + rng.normal(0, 0.05)
        direction = np.cumsum(turns) + rng.uniform(0, 2 * np.pi)
        way = np.cumsum(np.stack([np.cos(direction), np.sin(direction)], axis=1), axis=0)
        way = (way - way.min(axis=0)) / np.ptp(way, axis=0).max() * 80 + 10
        picture = Image.new("L", (100, 100), 255)
        pen = int(rng.integers(3, 10))
        ImageDraw.Draw(picture).line([(float(x), float(y)) for x, y in way], fill=0, width=pen, joint="curve")
        pictures.append(np.asarray(picture))
    return pictures


def noise(count: int, seed: int) -> list[Pixels]:
    """Pictures of random grey levels, from fine grain to blots."""
    rng = np.random.default_rng([seed, 4])
    grain = rng.integers(0, 256, (count, 28, 28), np.uint8)
    return [np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(at % 4))) for at, one in enumerate(grain)]


def seen(pictures: list[Pixels]) -> tuple[Pixels, int]:
    """The canonical images, n x 28 x 28, and the number of pictures that `canonical` refused."""
    images, refused = canonical_batch(pictures)
    return np.delete(images, list(refused), axis=0), len(refused)


KINDS: Final = {"letters": letters, "scribbles": scribbles, "noise": noise}
