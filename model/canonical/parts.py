"""Connected parts of the marks: which belong to the digit, and which are specks.

Parts are 8-connected. The marks of a picture are one integer: pixel (y, x) is bit y * stride + x. The stride is the
width plus one spare bit, which is always 0. Shifting the integer shifts the picture, and a carry ends at the spare bit.
On 28x28 pixels such an operation takes 0.1 us; the same operation on an array takes 2 us. For most digits the service
asks only two questions (is it one part? where is it?), which take about ten operations.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from model.canonical.images import NoInk

Box: TypeAlias = tuple[int, int, int, int]  # top, left, bottom, right; the latter two exclusive

MARK: Final = 32  # of 255: fainter pixels do not widen the digit's box (MNIST's boxes stay 20 for values up to 51)
NEAR: Final = 0.08  # of the digit's long side: the greatest gap between the pieces of a broken stroke
LONG: Final = 1.5  # times the digit's long side: a longer part is a line on the page
TINY: Final = 0.01  # of the digit's marks: a smaller part is a speck, unless it is within the digit's box
CANDIDATES: Final = 64  # the number of largest parts that are examined; a digit seldom has more than three
SHARE: Final = 0.25  # of the marks: if the largest part has less, the marks are scattered and show no digit
RUNS: Final = 3  # in a row of the digit, on average: MNIST has at most 2.4, texture has more
PAGE: Final = 0.85  # share of its box that is marked: more is a page in a darker frame. One of MNIST's 60,000 has more
# Specks are found in two ways, because neither is fast enough alone. A flood takes an operation for each pixel of the
# longest stroke: 24 us for a 28x28 image of several parts, but 5.2 ms for 384x384. Labelling takes 133 us and 0.7 ms.
# With labelling alone, `canonical_batch` needs 28 us instead of 23 for an image of MNIST.
SMALL: Final = 4096  # pixels; pictures up to this size are flooded, larger ones are labelled


def packed(ink: NDArray[np.uint8]) -> list[int]:
    """The marks of each image, n x height x width uint8, ink bright on 0."""
    count, height, width = ink.shape
    wide = np.zeros((count, height, width + 1), np.bool_)
    np.greater_equal(ink, MARK, out=wide[:, :, :width])
    bits = np.packbits(wide.reshape(count, -1), axis=1, bitorder="little")
    return [int.from_bytes(row, "little") for row in bits]


def box(marks: int, height: int, width: int) -> Box:
    """The smallest box around the marks, of which there is at least one."""
    stride = width + 1
    columns, rows = marks, 1
    while rows < height:  # combines the rows: 1 and 1, 2 and 2, 4 and 4
        columns |= columns >> rows * stride
        rows *= 2
    columns &= (1 << stride) - 1
    top, bottom = (_lowest(marks) // stride, (marks.bit_length() - 1) // stride + 1)
    return top, _lowest(columns), bottom, columns.bit_length()


def _lowest(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def crosses_frame(marks: int, height: int, width: int) -> bool:
    """Whether marks touch two opposite sides of the frame."""
    top, left, bottom, right = _frame(height, width)
    return bool((marks & top and marks & bottom) or (marks & left and marks & right))


@lru_cache(maxsize=256)
def _frame(height: int, width: int) -> tuple[int, int, int, int]:
    stride = width + 1
    top = (1 << width) - 1
    left = sum(1 << row * stride for row in range(height))
    return top, left, top << (height - 1) * stride, left << (width - 1)


def is_texture(marks: int, where: Box) -> bool:
    """Whether the rows have more runs (of adjacent marks) than the rows of a digit."""
    return (marks & ~(marks << 1)).bit_count() > RUNS * (where[2] - where[0])


def is_page(marks: int, height: int, width: int) -> bool:
    """Whether the marks nearly fill their box, and the box is neither narrow, as of a 1, nor the whole picture."""
    top, left, bottom, right = box(marks, height, width)
    down, across = bottom - top, right - left
    filled = marks.bit_count() > PAGE * down * across
    return filled and min(down, across) * 2 >= max(down, across) and down * across < height * width


def one_part(marks: int, height: int, width: int) -> bool:
    """Whether all marks, of which there is at least one, are connected. For a large picture, False may mean unknown."""
    stride = width + 1
    # If only one run (of adjacent marks in a row) touches no run above it, all others are connected to that one. The
    # same holds for runs below.
    near = marks | marks << 1 | marks >> 1
    past = marks << 1 & ~marks  # the bit past the end of each run
    for above in (near << stride, near >> stride):
        # Adding one of its own bits to a run carries into the bit past its end (MatchStar, Cameron et al. 2014).
        loose = past & ~(marks + (marks & above))
        if not loose & loose - 1:
            return True
    return height * width <= SMALL and _flooded(marks, stride) == marks


def _flooded(marks: int, stride: int) -> int:
    """The part that the first mark belongs to."""
    flood, grown = 0, marks & -marks
    while grown != flood:
        flood = grown
        grown |= grown << 1 | grown >> 1
        grown = (grown | grown << stride | grown >> stride) & marks
    return flood


def specks(marks: int, height: int, width: int) -> NDArray[np.bool_] | None:
    """The marks (height x width) that do not belong to the digit. None if there are none.

    The digit is the largest part, and every part near to it. A part at the frame counts a quarter of its size. A part
    is near if the gap is at most `NEAR` plus its share of the largest part's marks, times the digit's long side. So the
    bar of a 5 may be further away than a dot. Raises `NoInk` if no part is large enough.
    """
    if height * width <= SMALL:
        return _flood_specks(marks, height, width)
    return _label_specks(_unpacked(marks, height, width))


def _unpacked(marks: int, height: int, width: int) -> NDArray[np.bool_]:
    size = height * (width + 1)
    bits = np.frombuffer(marks.to_bytes(-(-size // 8), "little"), np.uint8)
    flat = np.unpackbits(bits, count=size, bitorder="little").view(np.bool_)
    return flat.reshape(height, width + 1)[:, :width]


def _flood_specks(marks: int, height: int, width: int) -> NDArray[np.bool_] | None:
    parts, left = [], marks
    while left:
        parts.append(_flooded(left, width + 1))
        left ^= parts[-1]
    kept = _kept([part.bit_count() for part in parts], [box(part, height, width) for part in parts], height, width)
    dropped = sum(part for i, part in enumerate(parts) if i not in kept)  # parts share no bit, so the sum is the union
    return _unpacked(dropped, height, width) if dropped else None


def _label_specks(marks: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Finds specks with a few operations on arrays, over the runs of marks."""
    height, width = marks.shape
    # The blank column to the left and the blank row below keep runs, and pairs of runs, from wrapping to the next row.
    padded = np.zeros((height + 1, width + 1), np.bool_)
    padded[:height, 1:] = marks
    flat = padded.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    part = _joined(starts, ends, width + 1)
    sizes = np.bincount(part, ends - starts)  # 0 for a run that is not the first of its part
    row, left = np.divmod(starts, width + 1)
    boxes = np.empty((len(sizes), 4), np.int64)
    boxes[:] = height, width, 0, 0
    np.minimum.at(boxes[:, 0], part, row)
    np.minimum.at(boxes[:, 1], part, left - 1)
    np.maximum.at(boxes[:, 2], part, row + 1)
    np.maximum.at(boxes[:, 3], part, left - 1 + ends - starts)
    firsts = np.flatnonzero(sizes)
    kept = _kept(sizes[firsts].tolist(), boxes[firsts].tolist(), height, width)
    if len(kept) == len(firsts):
        return None
    dropped = np.isin(part, firsts[list(kept)], invert=True)
    # +1 where the run of a speck starts, -1 where it ends: the running sum is 1 on specks.
    steps = np.zeros(padded.size, np.int8)
    steps[starts[dropped]] = 1
    steps[ends[dropped]] -= 1
    return np.cumsum(steps, dtype=np.int8).reshape(padded.shape)[:height, 1:] > 0


def _joined(starts: NDArray[np.int64], ends: NDArray[np.int64], stride: int) -> NDArray[np.int64]:
    """For each run, the number of the first run of its part (after Rosenfeld and Pfaltz 1966, all runs at once)."""
    first = np.searchsorted(ends, starts + stride)  # the first run in the row below that touches this one
    beyond = np.searchsorted(starts, ends + stride, side="right")
    pairs = beyond - first
    upper = np.repeat(np.arange(len(starts)), pairs)
    lower = np.arange(len(upper)) + np.repeat(first - np.cumsum(pairs) + pairs, pairs)
    root = np.arange(len(starts))
    while True:
        a, b = root[upper], root[lower]
        apart = a != b
        if not apart.any():
            return root
        np.minimum.at(root, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while (root[root] != root).any():
            root = root[root]


def _kept(sizes: Sequence[float], boxes: Sequence[Sequence[int]], height: int, width: int) -> set[int]:
    """The indices of the parts that make the digit, given their numbers of marks and their boxes."""
    weights = [
        size / 4 if top == 0 or left == 0 or bottom == height or right == width else size
        for size, (top, left, bottom, right) in zip(sizes, boxes, strict=True)
    ]
    largest = weights.index(max(weights))
    share = sizes[largest] / sum(sizes)
    if share < SHARE:
        raise NoInk(
            f"marks are scattered over the picture, the largest has {share:.0%} of their pixels: no digit stands out"
        )
    kept = {largest}
    top, left, bottom, right = boxes[largest]
    others = sorted(range(len(sizes)), key=lambda i: -sizes[i])[:CANDIDATES]
    grown = True
    while grown:
        grown = False
        for i in others:
            above, before, below, after = boxes[i]
            ratio = sizes[i] / sizes[largest]
            reach = NEAR + ratio if ratio >= TINY else 0
            gap = max(above - bottom, top - below, before - right, left - after)
            longest = max(bottom - top, right - left)
            if i not in kept and gap <= reach * longest and max(below - above, after - before) <= LONG * longest:
                top, left, bottom, right = min(top, above), min(left, before), max(bottom, below), max(right, after)
                kept.add(i)
                grown = True
    return kept
