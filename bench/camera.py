"""Pictures as people send them, made from a clean digit. `canonical` must find the digit in each of them.

`bench.photos`, docs/pictures.py and the tests of `canonical` use this module; it has no command of its own.
"""

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Share = NDArray[np.float64]  # height x width, 0 on paper and 1 where ink covers it
Rng = np.random.Generator


def on_page(digit: NDArray[np.uint8], times: float, canvas: tuple[int, int], at: tuple[float, float]) -> Share:
    """A digit (uint8, ink bright on 0) enlarged and put on a page (height, width); `at`: (0, 0) is the top left."""
    height, width = (round(side * times) for side in digit.shape)
    large = np.asarray(Image.fromarray(digit).resize((width, height), Image.Resampling.BICUBIC)) / 255
    page = np.zeros(canvas)
    top, left = round((canvas[0] - height) * at[0]), round((canvas[1] - width) * at[1])
    page[top : top + height, left : left + width] = large
    return page


def _mixed(share: Share, paper: Share | float, ink: float) -> Share:
    return paper * (1 - share) + ink * share


def _light(shape: tuple[int, ...], rng: Rng, strength: float = 0.35) -> Share:
    """Light from one side with a vignette; 1 is the brightest."""
    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    turn = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(turn) * x + np.sin(turn) * y) / np.sqrt(2)
    light: Share = 1 - strength * (0.6 * (1 - slope) / 2 + 0.4 * (x**2 + y**2) / 2)
    return light


def _lines(shape: tuple[int, ...], rng: Rng, *, down: bool = False) -> Share:
    """Ruled lines 1.5 pixels thick, 24 apart; `down` also vertical ones."""
    page = np.zeros(shape)
    for axis in (0, 1)[: 1 + down]:
        along = (np.arange(shape[axis]) + rng.uniform(0, 24)) % 24
        line = np.clip(1.25 - np.abs(along - 12), 0, 1)
        page = np.maximum(page, line[:, None] if axis == 0 else line[None])
    return page


def _grain(shape: tuple[int, ...], rng: Rng, deviation: float) -> Share:
    """Noise of a sensor and of uneven paper: one part fine, one part twice as coarse."""
    fine = rng.normal(0, deviation, shape)
    coarse = rng.normal(0, deviation, (shape[0] // 2 + 1, shape[1] // 2 + 1)).repeat(2, 0).repeat(2, 1)
    return fine + coarse[: shape[0], : shape[1]]


def _levels(values: Share) -> NDArray[np.uint8]:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _jpeg(values: Share, quality: int) -> Image.Image:
    file = io.BytesIO()
    Image.fromarray(_levels(values)).save(file, "JPEG", quality=quality)
    return Image.open(file)


def _clean(share: Share, _: Rng) -> Image.Image:
    return Image.fromarray(_levels(_mixed(share, 255, 0)))


def _grainy(share: Share, rng: Rng) -> Image.Image:
    return Image.fromarray(_levels(_mixed(share, 225, 50) + _grain(share.shape, rng, 5)))


def _uneven(share: Share, rng: Rng) -> Image.Image:
    page = _light(share.shape, rng, 0.5) * _mixed(share, 235, 45)
    return Image.fromarray(_levels(page + _grain(share.shape, rng, 2)))


def _compressed(share: Share, rng: Rng) -> Image.Image:
    return _jpeg(_mixed(share, 235, 45) * _light(share.shape, rng) + _grain(share.shape, rng, 3), 40)


def _ruled(share: Share, rng: Rng) -> Image.Image:
    """Pale blue lines, dark blue ink, in colour."""
    lines, light = _lines(share.shape, rng)[..., None], _light(share.shape, rng)[..., None]
    paper = np.array([238.0, 236, 228]) * (1 - lines) + np.array([170.0, 195, 225]) * lines
    page = paper * (1 - share[..., None]) + np.array([35.0, 45, 110]) * share[..., None]
    return _jpeg(page * light + _grain(share.shape, rng, 2)[..., None], 80)


def _squared(share: Share, rng: Rng) -> Image.Image:
    paper = _mixed(_lines(share.shape, rng, down=True), 235, 190)
    return Image.fromarray(_levels(_mixed(share, paper, 50) * _light(share.shape, rng) + _grain(share.shape, rng, 2)))


def _shadowed(share: Share, rng: Rng) -> Image.Image:
    """The shadow of a hand or a phone over a part of the page, with a slanted edge a few pixels wide."""
    y, x = np.meshgrid(np.linspace(-1, 1, share.shape[0]), np.linspace(-1, 1, share.shape[1]), indexing="ij")
    turn, width = rng.uniform(0, 2 * np.pi), 6 / max(share.shape)
    shade = 1 / (1 + np.exp(-(np.cos(turn) * x + np.sin(turn) * y - rng.uniform(-0.4, 0.4)) / width))
    page = _mixed(share, 235, 45) * (1 - 0.4 * shade)
    return Image.fromarray(_levels(page + _grain(share.shape, rng, 2)))


def _dusty(share: Share, rng: Rng) -> Image.Image:
    """Twelve specks as dark as the ink, 2 to 4 pixels wide, none of them close to the digit."""
    near = np.asarray(Image.fromarray(_levels(share * 255)).filter(ImageFilter.MaxFilter(25)))
    page = share.copy()
    for _ in range(12):
        y, x, size = rng.integers(0, share.shape[0] - 4), rng.integers(0, share.shape[1] - 4), rng.integers(2, 5)
        if not near[y : y + 4, x : x + 4].any():
            page[y : y + size, x : x + size] = 1
    return Image.fromarray(_levels(_mixed(page, 230, 50) + _grain(share.shape, rng, 2)))


def _on_a_table(share: Share, rng: Rng) -> Image.Image:
    """The page does not fill the frame: a dark table is visible on two sides."""
    page = _mixed(share, 230, 50)
    page[:, : share.shape[1] // 14] = 70
    page[-(share.shape[0] // 16) :] = 70
    return Image.fromarray(_levels(page + _grain(share.shape, rng, 3)))


def _pencil(share: Share, rng: Rng) -> Image.Image:
    return Image.fromarray(
        _levels(_mixed(share, 215, 150) * _light(share.shape, rng, 0.2) + _grain(share.shape, rng, 2))
    )


def _chalk(share: Share, rng: Rng) -> Image.Image:
    page = _mixed(share, 60, 215) * _light(share.shape, rng) + _grain(share.shape, rng, 3)
    return _jpeg(page, 70)


def _transparent(share: Share, _: Rng) -> Image.Image:
    page = Image.new("RGBA", share.shape[::-1], (20, 30, 120, 0))
    page.putalpha(Image.fromarray(_levels(share * 255)))
    return page


def _turned(share: Share, rng: Rng) -> Image.Image:
    """Taken with the camera on its side, which EXIF records."""
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    page = _mixed(share, 235, 45) * _light(share.shape, rng) + _grain(share.shape, rng, 2)
    Image.fromarray(np.rot90(_levels(page))).save(file, "JPEG", quality=85, exif=exif)
    return Image.open(file)


def _small(share: Share, rng: Rng) -> Image.Image:
    """A photo reduced to a third of its size, like a thumbnail."""
    page = _mixed(share, 235, 45) * _light(share.shape, rng) + _grain(share.shape, rng, 3)
    return Image.fromarray(_levels(page)).reduce(3)


def _huge(share: Share, rng: Rng) -> Image.Image:
    """A large photo, slightly out of focus."""
    page = _mixed(share, 235, 45) * _light(share.shape, rng)
    large = Image.fromarray(_levels(page)).resize((share.shape[1] * 5, share.shape[0] * 5), Image.Resampling.BICUBIC)
    return Image.fromarray(_levels(np.asarray(large) + _grain(large.size[::-1], rng, 4)))


def _everything(share: Share, rng: Rng) -> Image.Image:
    """Uneven light, squares, specks, grain and JPEG together."""
    y, x = rng.integers(0, share.shape[0] - 3), rng.integers(0, share.shape[1] - 3)
    page = share.copy()
    if share[max(0, y - 12) : y + 15, max(0, x - 12) : x + 15].max() == 0:
        page[y : y + 3, x : x + 3] = 1
    paper = _mixed(_lines(share.shape, rng, down=True), 235, 195)
    return _jpeg(_mixed(page, paper, 55) * _light(share.shape, rng, 0.45) + _grain(share.shape, rng, 3), 60)


PHOTOS: Final[dict[str, Callable[[Share, Rng], Image.Image]]] = {
    "clean": _clean,
    "grain": _grainy,
    "uneven light": _uneven,
    "JPEG, quality 40": _compressed,
    "ruled, blue ink": _ruled,
    "squared": _squared,
    "shadow": _shadowed,
    "dust": _dusty,
    "dark table": _on_a_table,
    "pencil": _pencil,
    "chalk": _chalk,
    "transparent": _transparent,
    "turned": _turned,
    "thumbnail": _small,
    "1.9 megapixels": _huge,
    "everything": _everything,
}
