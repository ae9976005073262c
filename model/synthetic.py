"""Digits drawn by the project itself, from strokes a person can read and change."""

from collections.abc import Sequence
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.interpolate import make_interp_spline

Point: TypeAlias = tuple[float, float]

# Points the pen passes in order, x to the right and y down, in a box of 0..1; a point given twice is a corner.
STROKES: Final[dict[int, Sequence[Sequence[Point]]]] = {
    0: [[(0.50, 0.02), (0.22, 0.20), (0.16, 0.52), (0.26, 0.85), (0.50, 0.98), (0.76, 0.84), (0.84, 0.50), (0.76, 0.18), (0.50, 0.02)]],
    1: [[(0.32, 0.22), (0.55, 0.02), (0.55, 0.02), (0.53, 0.50), (0.52, 0.98)]],
    2: [[(0.18, 0.26), (0.32, 0.06), (0.58, 0.02), (0.80, 0.20), (0.70, 0.46), (0.42, 0.74), (0.16, 0.96), (0.16, 0.96), (0.50, 0.95), (0.86, 0.97)]],
    3: [[(0.20, 0.12), (0.48, 0.01), (0.76, 0.14), (0.72, 0.36), (0.44, 0.47), (0.44, 0.47), (0.76, 0.58), (0.82, 0.80), (0.52, 0.99), (0.16, 0.88)]],
    4: [[(0.60, 0.02), (0.38, 0.34), (0.12, 0.66), (0.12, 0.66), (0.50, 0.65), (0.90, 0.63)], [(0.66, 0.36), (0.63, 0.98)]],
    5: [[(0.80, 0.03), (0.30, 0.05), (0.30, 0.05), (0.25, 0.42), (0.25, 0.42), (0.54, 0.36), (0.80, 0.54), (0.76, 0.86), (0.46, 0.99), (0.16, 0.88)]],
    6: [[(0.70, 0.03), (0.38, 0.24), (0.20, 0.58), (0.26, 0.90), (0.54, 0.98), (0.78, 0.80), (0.68, 0.56), (0.42, 0.54), (0.22, 0.72)]],
    7: [[(0.14, 0.06), (0.50, 0.05), (0.84, 0.04), (0.84, 0.04), (0.62, 0.45), (0.44, 0.98)]],
    8: [[(0.74, 0.14), (0.46, 0.01), (0.24, 0.18), (0.44, 0.42), (0.74, 0.62), (0.72, 0.90), (0.46, 0.99), (0.22, 0.86), (0.30, 0.62), (0.58, 0.42), (0.76, 0.20), (0.70, 0.08)]],
    9: [[(0.76, 0.22), (0.52, 0.02), (0.26, 0.16), (0.28, 0.42), (0.54, 0.48), (0.76, 0.24), (0.76, 0.24), (0.74, 0.58), (0.64, 0.98)]],
}  # fmt: skip


def draw(digit: int, *, size: int, pen: float, canvas: tuple[int, int], at: Point = (0.5, 0.5)) -> NDArray[np.float32]:
    """`digit`, `size` pixels tall, drawn with a round pen of `pen` times that, its middle at the share `at` of `canvas`.

    Returns height x width of `canvas` (width, height), ink 1 on 0, anti-aliased.
    """
    fine = 4  # times as many pixels each way, averaged at the end
    image = Image.new("L", (canvas[0] * fine, canvas[1] * fine))
    sketch = ImageDraw.Draw(image)
    radius = pen * size * fine / 2
    corner = np.array([canvas[0] * at[0] - size / 2, canvas[1] * at[1] - size / 2])
    for stroke in STROKES[digit]:
        points = (corner + curve(stroke) * size) * fine
        sketch.line([tuple(point) for point in points], fill=255, width=round(2 * radius), joint="curve")
        for x, y in points:
            sketch.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(image.resize(canvas, Image.Resampling.BOX)).astype(np.float32) / np.float32(255)


def curve(stroke: Sequence[Point], density: int = 24) -> NDArray[np.float64]:
    """Points along a smooth line through those of `stroke`, `density` for each of its parts; corners stay corners."""
    parts: list[list[Point]] = [[]]
    for i, point in enumerate(stroke):
        parts[-1].append(point)
        if i and point == stroke[i - 1]:
            parts[-1].pop()
            parts.append([point])
    return np.concatenate([_smooth(np.array(part), density) for part in parts])


def _smooth(points: NDArray[np.float64], density: int) -> NDArray[np.float64]:
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    spline = make_interp_spline(way, points, k=min(3, len(points) - 1))
    found: NDArray[np.float64] = spline(np.linspace(0, way[-1], density * len(points)))
    return found
