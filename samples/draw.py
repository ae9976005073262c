"""Draws the pictures in samples/, docs/seen.png (what the network sees of them), and docs/styles.png (the styles).

python -m samples.draw
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.canonical import canonical
from model.synthetic import HAND, draw, written
from model.synthetic.styles import SIGNS, STYLES

SAMPLES = Path("samples")
SEEN = Path("docs/seen.png")
SHEET = Path("docs/styles.png")


def main() -> None:
    SAMPLES.mkdir(exist_ok=True)
    for digit in (3, 8):
        ink = draw(digit, size=20, pen=0.12, canvas=(28, 28))
        _save(f"clean-{digit}", ink * 255)
    for digit, at in ((2, (0.2, 0.75)), (7, (0.8, 0.25))):
        ink = draw(digit, size=60, pen=0.09, canvas=(200, 140), at=at)
        _save(f"off-centre-{digit}", ink * 255)
    rng = np.random.default_rng(0)
    for digit, at in ((0, (0.6, 0.4)), (5, (0.35, 0.6))):
        ink = draw(digit, size=150, pen=0.06, canvas=(320, 240), at=at)[..., None]
        paper, blue = np.array([236, 230, 214]), np.array([38, 44, 92])
        grain = rng.normal(0, 2, ink.shape)
        _save(f"dark-on-paper-{digit}", paper * (1 - ink) + blue * ink + grain)
    _styles().save(SHEET, optimize=True)
    _compare(sorted(SAMPLES.glob("*.png"))).save(SEEN, optimize=True)


def _styles(hands: int = 3) -> Image.Image:
    """Every style, written `hands` times, one below the other. Each digit has a band; signs have the last."""
    rng = np.random.default_rng(0)
    per_band = max(map(len, STYLES.values()))
    signs = [SIGNS[at : at + per_band] for at in range(0, len(SIGNS), per_band)]
    bands = []
    for styles in (*STYLES.values(), *signs):
        band = np.full((hands * 28 + 6, per_band * 28), 90, np.uint8)
        for column, style in enumerate(styles):
            for hand, (_, picture) in enumerate(written(style, hands, HAND, rng)):
                band[hand * 28 : hand * 28 + 28, column * 28 : column * 28 + 28] = canonical(picture)
        bands.append(band)
    sheet = Image.fromarray(np.vstack(bands))
    return sheet.resize((sheet.width * 3 // 2, sheet.height * 3 // 2)).quantize(16)


def _save(name: str, levels: NDArray[np.floating]) -> None:
    Image.fromarray(np.rint(levels).clip(0, 255).astype(np.uint8)).save(SAMPLES / f"{name}.png", optimize=True)


def _compare(paths: list[Path]) -> Image.Image:
    """Each picture as it is sent, and below it the 28x28 that `canonical` makes of it."""
    width, height, side, gap = 150, 112, 84, 10
    sheet = Image.new("RGB", ((width + gap) * len(paths) + gap, height + side + 3 * gap), "#c8ccd4")
    for column, path in enumerate(paths):
        image = Image.open(path)
        left, middle = gap + column * (width + gap), gap + column * (width + gap) + width // 2
        scale = min(width / image.width, height / image.height)
        sent = image.convert("RGB").resize((round(image.width * scale), round(image.height * scale)))
        seen = Image.fromarray(canonical(image)).resize((side, side), Image.Resampling.NEAREST)
        sheet.paste(sent, (left + (width - sent.width) // 2, gap + (height - sent.height) // 2))
        sheet.paste(seen, (middle - side // 2, height + 2 * gap))
    return sheet


if __name__ == "__main__":
    main()
