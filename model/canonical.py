"""Any picture of a digit -> the 28x28 the network sees: the one preprocessing contract.

Training, evaluation, service and monitoring all call `canonical`, so that none of them can see a
digit that the others would not. numpy and Pillow only, no torch: the serving image imports it.
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from model.images import BadImage, NoInk

Pixels: TypeAlias = NDArray[np.uint8]

VERSION: Final = "1"  # raised whenever the same picture gives other pixels; a bundle names the one it was trained on
SIDE: Final = 28  # pixels, the network's input
LONG_SIDE: Final = 20  # pixels, the longer side of the digit in it, as in MNIST
CENTRE: Final = 14  # pixels, where the centre of mass goes: measured on MNIST, whose mean is 14.0 and not 13.5
FAINTEST: Final = 24  # grey levels of 255 by which ink must stand out; a blank page's JPEG noise reaches about 10
EDGE: Final = 1 / 8  # of the darkest ink: fainter pixels don't widen the digit's box (MNIST's boxes stay 20 up to 1/5)


def canonical(image: Image.Image | Pixels) -> Pixels:
    """The 28x28 the network sees: ink bright on 0, long side 20, centre of mass at pixel (14, 14).

    `image` is a decoded picture of any size, mode and orientation, or its grey levels (uint8, height x width).
    Returns uint8, 28x28, brightest pixel 255. Raises `NoInk` when nothing stands out from the paper.
    After LeCun et al. 1998, section III.A; MNIST's own images it gives back all but unchanged (mean absolute
    difference 0.1 of 255 levels).
    """
    ink = _ink(image if isinstance(image, np.ndarray) else grey(image))
    # Contrast is stretched twice: before resizing for pale ink, which has few levels to lose, and after it for thin.
    return _centred(_full_contrast(_fitted(_full_contrast(_cropped(ink)))))


def grey(image: Image.Image) -> Pixels:
    """Grey levels as a person sees the picture: upright (EXIF), on paper where it is transparent.

    Returns uint8, height x width. Transparent places take the colour of the visible paper, or, where little more than
    the ink itself is visible, whichever of black and white the ink stands out from. Raises `BadImage` for pixels below
    0 or of more than 16 bits.
    """
    image = _upright(image)
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion clips these at 255
        return _deep(np.asarray(image, dtype=np.float64), "I;16" if image.mode.startswith("I;16") else image.mode)
    if not image.has_transparency_data:
        return np.asarray(image.convert("L"))
    colour, alpha = image.convert("RGBA").convert("LA").split()
    level, visible = np.asarray(colour, dtype=np.float32), np.asarray(alpha, dtype=np.float32) / 255
    share = float(visible.mean())
    if share == 0:
        raise NoInk("the image is wholly transparent")
    if share > 0.5:
        paper = float(np.median(level[visible > 0.5]))
    else:
        paper = 0.0 if float((level * visible).mean()) / share >= 128 else 255.0
    return np.rint(level * visible + paper * (1 - visible)).astype(np.uint8)


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
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 - Pillow's reader raises almost anything on broken EXIF
        return image


def _ink(levels: Pixels) -> Pixels:
    """How far each pixel stands out from the paper, towards the ink's side; 0 where it is paper or its noise."""
    if min(levels.shape) < 2:
        raise NoInk(f"{levels.shape[1]}x{levels.shape[0]} pixels hold no digit; at least 2x2 are needed")
    border = np.concatenate([levels[0], levels[-1], levels[1:-1, 0], levels[1:-1, -1]]).astype(np.int16)
    paper = int(np.median(border))
    lighter, darker = int(levels.max()) - paper, paper - int(levels.min())
    strongest = max(lighter, darker)
    if strongest < FAINTEST:
        raise NoInk(f"nothing stands out from the paper: the strongest mark differs by {strongest} of 255 grey levels,"
                    f" at least {FAINTEST} are needed")  # fmt: skip
    difference = levels.astype(np.int16) - paper if lighter >= darker else paper - levels.astype(np.int16)
    noise = 4 * 1.4826 * float(np.median(np.abs(border - paper)))  # 4 standard deviations, were it Gaussian
    difference[difference < min(noise, strongest / 2)] = 0
    return difference.clip(0, 255).astype(np.uint8)


def _cropped(ink: Pixels) -> Pixels:
    marks = ink > ink.max() * EDGE
    rows, columns = np.flatnonzero(marks.any(axis=1)), np.flatnonzero(marks.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fitted(ink: Pixels) -> Pixels:
    """The longer side made `LONG_SIDE`, the shape kept; Pillow's filters widen when they shrink: anti-aliasing.

    What is enlarged gets a pixel of paper around it first: its edges then fade over half a pixel on each side, instead
    of being cut off where an 8x8 scan ends.
    """
    height, width = ink.shape
    longest = max(height, width)
    if longest == LONG_SIDE:
        return ink
    scale = LONG_SIDE / longest
    if longest < LONG_SIDE - 1:
        scale = min(LONG_SIDE / (longest + 1), SIDE / (longest + 2))
        ink = np.pad(ink, 1)
        height, width = ink.shape
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC))


def _full_contrast(ink: Pixels) -> Pixels:
    """The brightest pixel made 255."""
    peak = int(ink.max())
    return ink if peak == 255 else np.rint(ink * np.float32(255 / peak)).astype(np.uint8)


def _centred(ink: Pixels) -> Pixels:
    """In the middle of `SIDE` x `SIDE` by centre of mass, moved by whole pixels and kept inside."""
    height, width = ink.shape
    rows, columns = ink.sum(axis=1, dtype=np.int64), ink.sum(axis=0, dtype=np.int64)
    total = rows.sum()
    top = round(CENTRE - float(rows @ np.arange(height)) / total)
    left = round(CENTRE - float(columns @ np.arange(width)) / total)
    top, left = min(max(top, 0), SIDE - height), min(max(left, 0), SIDE - width)
    out = np.zeros((SIDE, SIDE), dtype=np.uint8)
    out[top : top + height, left : left + width] = ink
    return out
