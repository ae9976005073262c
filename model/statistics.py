"""What is watched of each prediction: its class and confidence, how the ink looks, and what the network saw.

Watching compares the distribution of each statistic in production with the reference's (`model.drift`).
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.bundle import FEATURES
from model.canonical import Pixels

NAMES: Final = (
    "class",  # the place of the greatest probability among the bundle's labels
    "confidence",  # the greatest probability, to 5 digits
    "margin",  # log of the greatest probability over the second: it still differs where the confidence rounds to 1
    "ink",  # mean pixel, 0..1
    "thickness",  # mean stroke width, pixels
    *(f"feature {number}" for number in range(1, FEATURES + 1)),
)
_DIGITS: Final = 5  # of a confidence: the last bits of those near 1 depend on how many images were in the call
_CHUNK: Final = 64  # images whose thickness is measured at a time: the arrays stay in the cache, 4 times as fast
_LEAST: Final = float(np.finfo(np.float32).smallest_subnormal)  # in place of a probability that float32 rounds to 0


def measure(probabilities: NDArray[np.float32], pixels: Pixels, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """n x classes probabilities, n x 28 x 28 pixels and n x 4 features -> n x len(NAMES)."""
    rows = np.arange(len(probabilities))
    place = probabilities.argmax(axis=1)
    confidence = probabilities[rows, place].astype(np.float64)
    others = probabilities.copy()
    others[rows, place] = 0
    second = others.max(axis=1).astype(np.float64)
    margin = np.log(np.maximum(confidence, _LEAST)) - np.log(np.maximum(second, _LEAST))
    ink = pixels.mean(axis=(1, 2)) / 255
    shown = confidence.round(_DIGITS)
    return np.column_stack([place, shown, margin, ink, thickness(pixels), features]).astype(np.float64)


def thickness(pixels: Pixels) -> NDArray[np.float64]:
    """The mean stroke width in pixels of n x 28 x 28 images: twice the ink's area over the length of its outline.

    A stroke of width w and length l has the area w l and an outline of 2 l. The outline's length is the total variation
    of the grey levels (the coarea formula), so no threshold is needed. An image without ink has thickness 0.
    """
    found = np.empty(len(pixels))
    for at in range(0, len(pixels), _CHUNK):
        ink = np.pad(pixels[at : at + _CHUNK], ((0, 0), (1, 1), (1, 1))).astype(np.float32)
        width = ink.shape[2]
        ink = ink.reshape(len(ink), -1)  # the margin parts the rows
        falling = ink[:, width + 1 :] - ink[:, : -width - 1]  # over both diagonals of each 2 x 2 pixels (Roberts 1963)
        rising = ink[:, width:-1] - ink[:, 1:-width]
        outline = np.sqrt((falling * falling + rising * rising) / 2).sum(axis=1)
        found[at : at + _CHUNK] = 2 * ink.sum(axis=1) / np.maximum(outline, 1)  # any ink has an outline of 1 and more
    return found


def ties(ids: Sequence[str]) -> NDArray[np.float64]:
    """n x len(NAMES) numbers in [0, 1), uniform, which order equal values. They depend on each prediction's id alone.

    So every replica breaks a tie the same way, and a second reading of the journal gives the same evidence.
    """
    size = 4 * len(NAMES)
    digests = b"".join(hashlib.blake2b(one.encode(), digest_size=size).digest() for one in ids)
    numbers: NDArray[np.float64] = np.frombuffer(digests, "<u4").reshape(len(ids), len(NAMES)) / 2.0**32
    return numbers
