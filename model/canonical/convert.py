"""The conversion itself: `canonical` for one picture, `canonical_batch` for many.

Training, evaluation and service all call one of the two, so they all see the same digit. Only numpy and Pillow are
imported, because the serving image contains no torch.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps

from model.canonical import paper, parts
from model.canonical.images import STRIP, BadImage, NoInk, strips

Pixels: TypeAlias = NDArray[np.uint8]

VERSION: Final = "2"  # increased whenever a picture gives other pixels; a bundle names the version it was trained on
SIDE: Final = 28  # pixels, the network's input
LONG_SIDE: Final = 20  # pixels, the longer side of the digit in it, as in MNIST
CENTRE: Final = 14  # pixels, the place of the centre of mass: MNIST's mean, measured, is 14.0 and not 13.5
PAGE: Final = 384  # pixels, the longest side of a picture that is searched for ink; larger pictures are reduced first
SCAN: Final = 24  # pixels; a smaller picture is a scan cut out at the digit's edges, without paper or uneven light
CLEAN: Final = 1 / 10  # of the ink's contrast: by so much the paper of a clean canvas may vary
STACK: Final = 2**16  # pixels processed at once, so that the arrays stay in the processor's cache

# The keys under which Pillow finds an orientation. TIFF has tags of its own.
ORIENTED: Final = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})

_STEPS = np.arange(SIDE, dtype=np.float32)
# The product of an image's pixels and these columns: the sum of the pixels, weighted by 1, by the row, by the column.
MOMENTS: Final = np.stack([np.ones(SIDE * SIDE, np.float32), _STEPS.repeat(SIDE), np.tile(_STEPS, SIDE)], axis=1)


def canonical(image: Image.Image | Pixels) -> Pixels:
    """The 28x28 image that the network sees: bright ink on 0, long side 20, centre of mass at pixel (14, 14).

    `image` is a decoded picture of any size, mode and orientation, or its grey levels (uint8, height x width).
    Returns uint8, 28x28, brightest pixel 255. Raises `NoInk` if nothing stands out from the paper. After LeCun et al.
    1998, section III.A. MNIST's own images hardly change: the mean absolute difference is 0.1 of 255 levels.
    """
    pixels, refused = canonical_batch([image])
    if refused:
        raise refused[0]
    only: Pixels = pixels[0]
    return only


def canonical_batch(images: Sequence[Image.Image | Pixels] | Pixels) -> tuple[Pixels, dict[int, BadImage]]:
    """`canonical` of each image, bit for bit. It is several times as fast if the images have the same shape.

    Returns n x 28 x 28 uint8, and the errors by index. An image without a digit gets zeros, and the error that
    `canonical` would raise.
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
            ink, boxes = _ink(np.stack(stack) if len(stack) > 1 else stack[0][None])
            refused.update((row, box) for row, box in zip(rows, boxes, strict=True) if isinstance(box, NoInk))
            read = [(i, box) for i, box in enumerate(boxes) if not isinstance(box, NoInk)]
            digits = [_fitted(ink[i, top:bottom, left:right]) for i, (top, left, bottom, right) in read]
            _place(digits, [out[rows[i]] for i, _ in read])
    return out, refused


def grey(image: Image.Image) -> Pixels:
    """Grey levels as a person sees the picture: upright (EXIF), with paper in transparent places.

    Returns uint8, height x width. Transparent places get the colour of the visible paper. If hardly more than the ink
    is visible, they get black or white, whichever differs more from the ink. Raises `BadImage` for pixels below 0 or of
    more than 16 bits.
    """
    image = _upright(image)
    if image.mode == "L" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion clips these at 255
        return _deep(image)
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"))
    colour, alpha = _layers(image)
    visible = np.array(alpha.histogram()) @ np.arange(256)  # an opaque pixel counts 255
    if visible == 0:
        raise NoInk("the image is wholly transparent")
    if visible > colour.width * colour.height * 255 / 2:
        below = np.cumsum(colour.histogram(alpha.point([0] * 128 + [255] * 128)))
        paper = int(np.searchsorted(below, below[-1] / 2))
    else:
        ink = np.array(ImageChops.multiply(colour, alpha).histogram()) @ np.arange(256)
        paper = 0 if ink / visible * 255 >= 128 else 255
    return np.asarray(Image.composite(colour, Image.new("L", colour.size, paper), alpha))


def _layers(image: Image.Image) -> tuple[Image.Image, Image.Image]:
    """Grey levels and opacity of a picture with transparency."""
    if image.width * image.height <= STRIP:
        colour, alpha = image.convert("RGBA").convert("LA").split()
        return colour, alpha
    colour, alpha = Image.new("L", image.size), Image.new("L", image.size)
    for top, strip in strips(image):  # of the whole picture, each conversion would hold 4 more bytes for a pixel
        for whole, part in zip((colour, alpha), strip.convert("RGBA").convert("LA").split(), strict=True):
            whole.paste(part, (0, top))
    return colour, alpha


def _deep(image: Image.Image) -> Pixels:
    """Grey levels of more than 8 bits. Files do not name their white, so it is the least usual white that fits."""
    mode = "I;16" if image.mode.startswith("I;16") else image.mode
    whites = {"I;16": (65535,), "I": (255, 65535), "F": (1, 255, 65535)}[mode]
    extremes = [(levels.min(), levels.max()) for _, strip in strips(image) for levels in [np.asarray(strip)]]
    least, most = np.min(extremes), np.max(extremes)
    white = next((white for white in whites if most <= white), None)
    if white is None or not least >= 0:
        raise BadImage(f"pixels run from {least:g} to {most:g}; allowed are 0 to {whites[-1]}")
    scaled = np.empty((image.height, image.width), np.uint8)
    for top, strip in strips(image):  # a float64 takes 8 times the memory of the result
        levels = np.asarray(strip, dtype=np.float64)
        scaled[top : top + strip.height] = np.rint(levels * (255 / white))
    return scaled


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF says, or unchanged if its EXIF is broken."""
    if image.format != "TIFF" and ORIENTED.isdisjoint(image.info):  # saves a copy by Pillow
        return image
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - Pillow's reader raises almost anything on broken EXIF
        return image


def _near(levels: Pixels) -> Pixels:
    """A large picture, cropped to its ink with a margin and box-filtered to at most `PAGE` pixels a side."""
    if max(levels.shape) <= PAGE:
        return levels
    small, factor = _reduced(levels)
    _, (box,) = _ink(small[None], paper.FAINTEST // 2)  # half, because the filter makes thin strokes fainter
    if isinstance(box, NoInk):
        raise box
    top, left, bottom, right = (edge * factor for edge in box)
    margin = max(bottom - top, right - left) // 2 + 2 * factor
    near = levels[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]
    return _reduced(near)[0]


def _reduced(levels: Pixels) -> tuple[Pixels, int]:
    """The picture, box-filtered by the least whole factor that leaves at most `PAGE` pixels a side, and the factor."""
    factor = -(-max(levels.shape) // PAGE)
    return (np.asarray(Image.fromarray(levels).reduce(factor)) if factor > 1 else levels), factor


def _ink(levels: Pixels, faintest: int = paper.FAINTEST) -> tuple[Pixels, list[parts.Box | NoInk]]:
    """The ink of each picture, n x height x width: 0 on paper, 255 in the digit, without specks.

    Ink must differ from the paper by `faintest` levels. A clean canvas keeps all its levels; a photo is flattened and
    thresholded (`model.canonical.paper`). Also returns the box of each digit, or the error if there is none.
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

    boxes: list[parts.Box | NoInk] = []
    for i, (view, marks) in enumerate(zip(views, parts.packed(ink), strict=True)):
        try:
            boxes.append(_digit_box(levels[i], ink[i], view, marks, faintest))
        except NoInk as error:
            boxes.append(error)
    return ink, boxes


class _View:
    """The paper of an image, judged by its border and its extremes."""

    __slots__ = ("clean", "contrast", "flip", "noise", "paper")

    def __init__(self, lower: int, paper: int, upper: int, least: int, most: int) -> None:
        """Takes the quartiles of the border (`paper` is the median) and the extremes of the image."""
        self.paper = paper
        self.flip = 255 if paper - least > most - paper else 0  # dark ink: the negative is used
        self.contrast, other = max(most - paper, paper - least), min(most - paper, paper - least)
        self.clean = other <= self.contrast * CLEAN
        noise = round(2.97 * (upper - lower))  # 4 standard deviations of a Gaussian border
        self.noise = min(max(noise, other + 1) if self.clean and other else noise, self.contrast // 2)


def _digit_box(levels: Pixels, ink: Pixels, view: _View, marks: int, faintest: int) -> parts.Box:
    """The box of one digit. Corrects `ink` in place if the image is not a clean canvas or has specks."""
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
    """The box of the digit on a page that fills only a part of the picture."""
    top, left, bottom, right = page
    inside, (box,) = _ink(levels[top:bottom, left:right][None], faintest)
    if isinstance(box, NoInk):
        raise box
    ink[:] = 0
    ink[top:bottom, left:right] = inside[0]
    return top + box[0], left + box[1], top + box[2], left + box[3]


def _is_cut_out(ink: Pixels) -> bool:
    """Whether the marks at the frame are as dark as a digit that was cut out at its edges, and not a pale line."""
    edge = ink.reshape(-1)[_border(*ink.shape)]
    strong, marked = (int(np.count_nonzero(edge >= level)) for level in (128, parts.MARK))
    return strong * 2 > marked


def _column(numbers: list[int]) -> Pixels:
    """One number for each image of a stack."""
    return np.array(numbers, np.uint8)[:, None, None]


@lru_cache(maxsize=256)
def _border(height: int, width: int) -> NDArray[np.intp]:
    """The indices of the outermost pixels in a flattened picture."""
    inside = np.zeros((height, width), np.bool_)
    inside[1:-1, 1:-1] = True
    return np.flatnonzero(~inside)


def _fitted(ink: Pixels) -> NDArray[np.number]:
    """Resizes the digit, anti-aliased, so that its longer side is `LONG_SIDE`. The result is in whole numbers.

    A digit that is enlarged gets one pixel of paper around it first. Its edges then fade over half a pixel on each
    side; otherwise they would be cut off at the border of an 8x8 scan.
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


@lru_cache(maxsize=256)  # of up to 86 kB
def _cubic(size: int, to: int, rim: int) -> NDArray[np.float64]:
    """Weights, `to` x `size`, for resizing by cubic convolution (Keys 1981, a = -0.5). The kernel widens for shrinking.

    On either side are `rim` pixels of paper. The weights are multiples of 2^-14, so every sum of products is exact in
    float64, and the order in which a processor adds does not change the result.
    """
    scale = (size + 2 * rim) / to
    distance = np.abs((np.arange(size + 2 * rim) + 0.5)[None] - (np.arange(to) + 0.5)[:, None] * scale) / max(scale, 1)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0))
    rounded: NDArray[np.float64] = np.rint(weights / weights.sum(axis=1, keepdims=True) * 2**14) / 2**14
    return rounded[:, rim : rim + size].copy()


def _place(digits: Sequence[NDArray[np.number]], outs: Sequence[Pixels]) -> None:
    """Puts each digit into a blank square, with the centre of mass in the middle, to whole pixels. It stays inside."""
    stack = np.zeros((len(digits), SIDE, SIDE), np.float32)
    for square, digit in zip(stack, digits, strict=True):
        square[: digit.shape[0], : digit.shape[1]] = digit
    peaks = np.maximum.reduce(stack, axis=(1, 2), initial=1)
    if any(peak != 255 for peak in peaks.tolist()):  # resizing made thin strokes fainter
        stack = np.rint(stack * (np.float32(255) / peaks)[:, None, None])
    moments = stack.reshape(-1, SIDE * SIDE) @ MOMENTS  # whole numbers below 2^24: exact in any order of adding
    for square, digit, out, (mass, down, across) in zip(stack, digits, outs, moments.tolist(), strict=True):
        height, width = digit.shape
        top = min(max(round(CENTRE - down / mass), 0), SIDE - height)
        left = min(max(round(CENTRE - across / mass), 0), SIDE - width)
        out[top : top + height, left : left + width] = square[:height, :width]
