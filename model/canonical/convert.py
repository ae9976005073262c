"""Any picture of a digit -> the 28x28 the network sees: the one preprocessing contract.

Training, evaluation, service and monitoring all call `canonical` or `canonical_batch`, so that none of them can see a
digit that the others would not. numpy and Pillow only, no torch: the serving image imports it.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps

from model.canonical import paper, parts
from model.canonical.images import BadImage, NoInk

Pixels: TypeAlias = NDArray[np.uint8]

VERSION: Final = "2"  # raised whenever the same picture gives other pixels; a bundle names the one it was trained on
SIDE: Final = 28  # pixels, the network's input
LONG_SIDE: Final = 20  # pixels, the longer side of the digit in it, as in MNIST
CENTRE: Final = 14  # pixels, where the centre of mass goes: measured on MNIST, whose mean is 14.0 and not 13.5
PAGE: Final = 384  # pixels, the longer side at which a picture is searched for ink; larger ones are reduced first
SCAN: Final = 24  # pixels; what is smaller is a scan cut out at the digit's edge, too small to have uneven light
CLEAN: Final = 1 / 10  # of the ink's contrast: what paper may differ by on a clean canvas
STACK: Final = 2**16  # pixels worked on at once: a stack and its by-products stay in the processor's cache

# Where Pillow finds an orientation, but for TIFF's own tags.
ORIENTED: Final = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})

_STEPS = np.arange(SIDE, dtype=np.float32)
# A square's pixels, multiplied with these: their sum, and that times the row and the column it lies in.
MOMENTS: Final = np.stack([np.ones(SIDE * SIDE, np.float32), _STEPS.repeat(SIDE), np.tile(_STEPS, SIDE)], axis=1)


def canonical(image: Image.Image | Pixels) -> Pixels:
    """The 28x28 the network sees: ink bright on 0, long side 20, centre of mass at pixel (14, 14).

    `image` is a decoded picture of any size, mode and orientation, or its grey levels (uint8, height x width).
    Returns uint8, 28x28, brightest pixel 255. Raises `NoInk` when nothing stands out from the paper.
    After LeCun et al. 1998, section III.A; MNIST's own images it gives back all but unchanged (mean absolute
    difference 0.1 of 255 levels).
    """
    pixels, refused = canonical_batch([image])
    if refused:
        raise refused[0]
    only: Pixels = pixels[0]
    return only


def canonical_batch(images: Sequence[Image.Image | Pixels] | Pixels) -> tuple[Pixels, dict[int, BadImage]]:
    """`canonical` of each image, the same to the bit, several times as fast where images have one shape.

    Returns n x 28 x 28 uint8, and for each image that holds no digit its index and the error that `canonical` would
    raise; its pixels are 0.
    """
    out = np.zeros((len(images), SIDE, SIDE), np.uint8)
    refused: dict[int, BadImage] = {}
    shapes: defaultdict[tuple[int, ...], list[tuple[int, Pixels]]] = defaultdict(list)
    for i, image in enumerate(images):
        try:
            levels = _near(image if isinstance(image, np.ndarray) else grey(image))
        except BadImage as error:
            refused[i] = error
            continue
        shapes[levels.shape].append((i, levels))
    for shape, group in shapes.items():
        step = max(1, STACK // (shape[0] * shape[1]))
        for start in range(0, len(group), step):
            rows, stack = zip(*group[start : start + step], strict=True)
            ink, found = _ink(np.stack(stack) if len(stack) > 1 else stack[0][None])
            refused.update((row, box) for row, box in zip(rows, found, strict=True) if isinstance(box, NoInk))
            boxes = [(i, box) for i, box in enumerate(found) if not isinstance(box, NoInk)]
            digits = [_fitted(ink[i, top:bottom, left:right]) for i, (top, left, bottom, right) in boxes]
            _place(digits, [out[rows[i]] for i, _ in boxes])
    return out, refused


def grey(image: Image.Image) -> Pixels:
    """Grey levels as a person sees the picture: upright (EXIF), on paper where it is transparent.

    Returns uint8, height x width. Transparent places take the colour of the visible paper, or, where little more than
    the ink itself is visible, whichever of black and white the ink stands out from. Raises `BadImage` for pixels below
    0 or of more than 16 bits.
    """
    image = _upright(image)
    if image.mode == "L" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion clips these at 255
        return _deep(np.asarray(image, dtype=np.float64), "I;16" if image.mode.startswith("I;16") else image.mode)
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"))
    colour, alpha = image.convert("RGBA").convert("LA").split()
    visible = np.array(alpha.histogram()) @ np.arange(256)  # 255 for each pixel wholly so
    if visible == 0:
        raise NoInk("the image is wholly transparent")
    if visible > colour.width * colour.height * 255 / 2:
        below = np.cumsum(colour.histogram(alpha.point([0] * 128 + [255] * 128)))
        paper = int(np.searchsorted(below, below[-1] / 2))
    else:
        seen = np.array(ImageChops.multiply(colour, alpha).histogram()) @ np.arange(256)
        paper = 0 if seen / visible * 255 >= 128 else 255
    return np.asarray(Image.composite(colour, Image.new("L", colour.size, paper), alpha))


def _deep(levels: NDArray[np.float64], mode: str) -> Pixels:
    """Grey levels of more than 8 bits. What is white, no file says: the least of the usual whites that none exceeds."""
    whites = {"I;16": (65535,), "I": (255, 65535), "F": (1, 255, 65535)}[mode]
    white = next((white for white in whites if levels.max() <= white), None)
    if white is None or not levels.min() >= 0:
        raise BadImage(f"pixels run from {levels.min():g} to {levels.max():g}; read are 0 to {whites[-1]}")
    scaled: Pixels = np.rint(levels * (255 / white)).astype(np.uint8)
    return scaled


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; as it is, where its EXIF is broken."""
    if image.format != "TIFF" and ORIENTED.isdisjoint(image.info):  # Pillow would copy it to no end
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - Pillow's reader raises almost anything on broken EXIF
        return image


def _near(levels: Pixels) -> Pixels:
    """A large picture cut to the surroundings of its ink, and box-filtered to at most `PAGE` pixels a side."""
    if max(levels.shape) <= PAGE:
        return levels
    small, factor = _reduced(levels)
    _, (found,) = _ink(small[None], paper.FAINTEST // 2)  # thin strokes grow faint
    if isinstance(found, NoInk):
        raise found
    top, left, bottom, right = (edge * factor for edge in found)
    margin = max(bottom - top, right - left) // 2 + 2 * factor
    near = levels[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]
    return _reduced(near)[0]


def _reduced(levels: Pixels) -> tuple[Pixels, int]:
    """Box-filtered by the least whole factor that leaves at most `PAGE` pixels a side; and the factor."""
    factor = -(-max(levels.shape) // PAGE)
    return (np.asarray(Image.fromarray(levels).reduce(factor)) if factor > 1 else levels), factor


def _ink(levels: Pixels, faintest: int = paper.FAINTEST) -> tuple[Pixels, list[parts.Box | NoInk]]:
    """How far each pixel stands out from the paper, towards the ink's side: 0 on paper, 255 in the digit, no specks.

    n x height x width; ink must stand out by `faintest` levels. A clean canvas keeps every level; a photo is flattened
    and thresholded (`model.canonical.paper`). Also returns the box of each digit, or why there is none.
    """
    count, height, width = levels.shape
    if min(height, width) < 2:
        return levels, [NoInk(f"{width}x{height} pixels hold no digit; at least 2x2 are needed")] * count
    flat = levels.reshape(count, -1)
    border = flat.take(_border(height, width), axis=1)
    border.sort(axis=1)
    quarter, half = border.shape[1] // 4, border.shape[1] // 2
    quartiles = (border[:, place].tolist() for place in (quarter, half, -1 - quarter))
    extremes = (extreme.reduce(flat, axis=1).tolist() for extreme in (np.minimum, np.maximum))
    views = [_View(*view) for view in zip(*quartiles, *extremes, strict=True)]

    ink = levels ^ _column([view.flip for view in views]) if any(view.flip for view in views) else levels.copy()
    papers = [view.paper ^ view.flip for view in views]
    if any(papers):
        ink = np.maximum(ink, _column(papers)) - _column(papers)
    if any(view.noise for view in views):
        ink *= ink >= _column([view.noise for view in views])
    if any(view.contrast != 255 for view in views):
        ink = np.rint(ink * (np.float32(255) / _column([max(view.contrast, 1) for view in views]))).astype(np.uint8)

    found: list[parts.Box | NoInk] = []
    for i, (view, marks) in enumerate(zip(views, parts.packed(ink), strict=True)):
        try:
            found.append(_found(levels[i], ink[i], view, marks, faintest))
        except NoInk as error:
            found.append(error)
    return ink, found


class _View:
    """What an image's border and extremes say of its paper."""

    __slots__ = ("clean", "contrast", "flip", "noise", "paper")

    def __init__(self, lower: int, paper: int, upper: int, least: int, most: int) -> None:
        """From the border's quartiles and median, and the image's extremes."""
        self.paper = paper
        self.flip = 255 if paper - least > most - paper else 0  # the ink is dark: seen in negative it is light
        self.contrast, other = max(most - paper, paper - least), min(most - paper, paper - least)
        self.clean = other <= self.contrast * CLEAN
        noise = round(2.97 * (upper - lower))  # 4 standard deviations of the border, were it Gaussian
        self.noise = min(max(noise, other + 1) if self.clean and other else noise, self.contrast // 2)


def _found(levels: Pixels, ink: Pixels, view: _View, marks: int, faintest: int) -> parts.Box:
    """The box of one digit. Its ink is put right in place where the image is no clean canvas or has specks."""
    height, width = ink.shape
    if view.contrast < faintest:
        raise paper.no_ink(view.contrast, faintest)
    if min(height, width) >= SCAN:
        if parts.is_page(marks, height, width):
            return _within(levels, ink, parts.box(marks, height, width), faintest)
        if not view.clean or (parts.crosses_frame(marks, height, width) and not _is_cut_out(ink)):
            ink[:] = paper.flattened(levels, faintest)
            (marks,) = parts.packed(ink[None])
        specks = None if parts.one_part(marks, height, width) else parts.specks(marks, height, width)
        if specks is not None:
            ink[specks] = 0
            (marks,) = parts.packed(ink[None])
    box = parts.box(marks, height, width)
    if parts.is_texture(marks, box):
        raise NoInk("the picture is filled with texture: no digit stands out")
    return box


def _within(levels: Pixels, ink: Pixels, page: parts.Box, faintest: int) -> parts.Box:
    """What stands out is a page, with something else around it: its ink is looked for in it."""
    top, left, bottom, right = page
    inside, (found,) = _ink(levels[top:bottom, left:right][None], faintest)
    if isinstance(found, NoInk):
        raise found
    ink[:] = 0
    ink[top:bottom, left:right] = inside[0]
    return top + found[0], left + found[1], top + found[2], left + found[3]


def _is_cut_out(ink: Pixels) -> bool:
    """Whether what touches the frame is as dark as a digit, cut out at its edges, and no pale line."""
    edge = ink.reshape(-1)[_border(*ink.shape)]
    strong, marked = (int(np.count_nonzero(edge >= level)) for level in (128, parts.MARK))
    return strong * 2 > marked


def _column(numbers: list[int]) -> Pixels:
    """One number for each image of a stack."""
    return np.array(numbers, np.uint8)[:, None, None]


@lru_cache(maxsize=256)
def _border(height: int, width: int) -> NDArray[np.intp]:
    """Where the outermost pixels lie in a flattened picture."""
    inside = np.zeros((height, width), np.bool_)
    inside[1:-1, 1:-1] = True
    return np.flatnonzero(~inside)


def _fitted(ink: Pixels) -> NDArray[np.number]:
    """The longer side made `LONG_SIDE`, the shape kept, anti-aliased; whole numbers.

    What is enlarged gets a pixel of paper around it first: its edges then fade over half a pixel on each side, instead
    of being cut off where an 8x8 scan ends.
    """
    height, width = ink.shape
    longest = max(height, width)
    if longest == LONG_SIDE:
        return ink
    rim = int(longest < LONG_SIDE - 1)
    scale = min(LONG_SIDE / (longest + 1), SIDE / (longest + 2)) if rim else LONG_SIDE / longest
    rows = _cubic(height, max(1, round((height + 2 * rim) * scale)), rim)
    columns = _cubic(width, max(1, round((width + 2 * rim) * scale)), rim)
    digit: NDArray[np.float64] = np.rint(rows @ ink @ columns.T).clip(0, 255)
    return digit


@lru_cache(maxsize=2048)
def _cubic(size: int, to: int, rim: int) -> NDArray[np.float64]:
    """Weights, `to` x `size`, that resize by cubic convolution (Keys 1981, a = -0.5), widened when they shrink.

    `rim` pixels of paper lie on either side. Weights are multiples of 2^-14, so that every sum of products is exact in
    a float64, and the result the same in whatever order a processor adds.
    """
    scale = (size + 2 * rim) / to
    distance = np.abs((np.arange(size + 2 * rim) + 0.5)[None] - (np.arange(to) + 0.5)[:, None] * scale) / max(scale, 1)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    rounded: NDArray[np.float64] = np.rint(weights / weights.sum(axis=1, keepdims=True) * 2**14) / 2**14
    return rounded[:, rim : rim + size].copy()


def _place(digits: Sequence[NDArray[np.number]], outs: Sequence[Pixels]) -> None:
    """Puts each digit into its blank square, the centre of mass in the middle: moved by whole pixels, kept inside."""
    stack = np.zeros((len(digits), SIDE, SIDE), np.float32)
    for square, digit in zip(stack, digits, strict=True):
        square[: digit.shape[0], : digit.shape[1]] = digit
    peaks = np.maximum.reduce(stack, axis=(1, 2), initial=1)
    if any(peak != 255 for peak in peaks.tolist()):  # for the second time: before resizing for pale ink, now for thin
        stack = np.rint(stack * (np.float32(255) / peaks)[:, None, None])
    moments = stack.reshape(-1, SIDE * SIDE) @ MOMENTS  # whole numbers below 2^24: exact, in whatever order
    for square, digit, out, (mass, down, across) in zip(stack, digits, outs, moments.tolist(), strict=True):
        height, width = digit.shape
        top = min(max(round(CENTRE - down / mass), 0), SIDE - height)
        left = min(max(round(CENTRE - across / mass), 0), SIDE - width)
        out[top : top + height, left : left + width] = square[:height, :width]
