"""Separates ink from paper on a photographed page: removes uneven light, grain, ruled lines and shadows."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from model.canonical.images import NoInk

FAINTEST: Final = 24  # grey levels of 255 by which ink must differ from paper; JPEG noise of a blank page has about 10
WINDOW: Final = 0.3  # of the shorter side: wider than any stroke, narrower than changes of the light
DIMMEST: Final = 100  # grey levels; darker paper is not brightened further, because its grain would look like ink
FOOT: Final = 0.4  # of the way from the paper to the threshold: the edge of a stroke starts there
SMOOTHED: Final = 96  # pixels; smaller pictures are not smoothed, because their strokes are too thin for it
SKEWED: Final = 0.3  # the least skewness that is reliable; most photos have more than 1
GRAIN: Final = 4  # standard deviations of the paper's grain; less than that is not ink

_Levels = NDArray[np.uint8]  # height x width


def flattened(levels: _Levels, faintest: int = FAINTEST) -> _Levels:
    """The ink of a photo: 0 on paper, 255 in a stroke.

    A morphological closing (for dark ink; an opening for light ink) gives the paper. It follows gradients, shadow edges
    and dark margins, but not strokes. Otsu's threshold (1979) divides the pixels that differ from the paper by more
    than its grain; pale ruled lines fall on the side of the paper. Raises `NoInk` if nothing differs by `faintest` grey
    levels, or by more than the grain.
    """
    if min(levels.shape) >= SMOOTHED:
        levels = _smooth(levels)
    dark = _ink_is_dark(levels)
    if dark:
        levels = 255 - levels
    page = _opened(levels, max(3, round(WINDOW * min(levels.shape))))
    # In half the light, dark ink differs half as much from the paper.
    light = np.float32(255) / np.maximum(255 - page, DIMMEST) if dark else np.ones_like(page)
    out = ((levels.astype(np.int16) - page) * light).clip(-255, 255).astype(np.int16)
    counts = np.bincount(out.reshape(-1) + 255, minlength=511)
    below = np.cumsum(counts) / out.size
    # If ink covers little of the picture, these are also the quantiles of the paper. If it covers half, 0.16 and 0.7.
    paper, lower = (int(level) - 255 for level in np.searchsorted(below, (0.35, 0.08)))
    grain = paper - lower  # 1 to 1.5 standard deviations
    least = paper + max(GRAIN * grain, faintest // 2)
    inked = counts[least + 255 :]
    if not inked.any():
        raise no_ink(int(out.max()) - paper, max(faintest, GRAIN * grain))
    split = least + _otsu(inked)
    strokes = np.cumsum(counts[split + 255 :])
    stroke = split + int(np.searchsorted(strokes, strokes[-1] / 2))  # the median of the levels above the threshold
    if stroke - paper < max(faintest, GRAIN * grain * 1.5):
        raise no_ink(stroke - paper, max(faintest, round(GRAIN * grain * 1.5)))
    low = paper + (split - paper) * FOOT
    ink: _Levels = np.rint(((out - low) * (255 / (stroke - low))).clip(0, 255)).astype(np.uint8)
    return ink


def no_ink(strongest: int, needed: int) -> NoInk:
    """The error for a picture whose strongest mark is too faint, or not stronger than the paper's grain."""
    return NoInk(f"nothing stands out from the paper: the strongest mark differs by {strongest} of 255 grey levels,"
                 f" at least {needed} are needed")  # fmt: skip


def _ink_is_dark(levels: _Levels) -> bool:
    """Whether ink is darker than paper. There is less ink than paper, so the levels around their local mean are skewed
    towards the ink.

    If they are hardly skewed, as for a bold digit cut out at its edges, the ink is the side that differs most from the
    edge of the frame.
    """
    reach = min(levels.shape) // 3
    blank = ImageOps.expand(Image.fromarray(levels), reach, 0)  # zeros, so that only pixels within the frame count
    total = np.asarray(blank.filter(ImageFilter.BoxBlur(reach)), np.float32)[reach:-reach, reach:-reach]
    rows, columns = (_within(length, reach) for length in levels.shape)
    around = levels - total / (rows[:, None] * columns)
    square = around * around
    skewness: float = float((square * around).mean()) / max(float(square.mean()), 1e-6) ** 1.5
    if abs(skewness) >= SKEWED:
        return skewness < 0
    edge = float(np.median(np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])))
    return edge - int(levels.min()) > int(levels.max()) - edge


def _within(length: int, reach: int) -> NDArray[np.float32]:
    """For each place, the share of the window (`reach` pixels on either side) that is within the frame."""
    place = np.arange(length)
    inside = np.minimum(place, reach) + np.minimum(place[::-1], reach) + 1
    share: NDArray[np.float32] = (inside / (2 * reach + 1)).astype(np.float32)
    return share


def _smooth(levels: _Levels) -> _Levels:
    """Averages each pixel with its neighbours, weighted 1:2:1. Without it, an opening follows the grain's extremes."""
    wide = np.pad(levels, 1, mode="edge").astype(np.uint16)
    rows = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    smooth: _Levels = ((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:] + 8) >> 4).astype(np.uint8)
    return smooth


def _opened(levels: _Levels, size: int) -> _Levels:
    """Removes bright things narrower than `size` pixels: the minimum, then the maximum, of squares of that size.

    Of a square that crosses the frame, only the part within counts. So a strip of table along the frame stays, however
    narrow it is. A digit that touches the frame is removed, because there is paper beside it.
    """
    size |= 1
    levels = np.pad(levels, size - 1, constant_values=255)
    for extreme in (np.minimum, np.maximum):
        for _ in range(2):
            levels = _running(extreme, levels, size).T
    return levels


def _running(extreme: np.ufunc, levels: _Levels, size: int) -> _Levels:
    """The extreme of every `size` successive rows. The span doubles (2, 4, 8...); the last two spans overlap."""
    span = 1
    while span < size:
        step = min(span, size - span)
        levels = extreme(levels[:-step], levels[step:])
        span += step
    return levels


def _otsu(counts: NDArray[np.int64]) -> int:
    """Otsu's threshold: it divides the histogram so that the variance between the two classes is greatest."""
    levels = np.arange(len(counts))
    size, total = np.cumsum(counts), np.cumsum(counts * levels)
    rest = size[-1] - size
    between = (total * (size[-1] / total[-1] if total[-1] else 0.0) - size) ** 2 / np.maximum(size * rest, 1)
    between[rest == 0] = -1
    return int(between.argmax()) + 1 if between.max() > 0 else 0
