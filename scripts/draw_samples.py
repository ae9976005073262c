"""Draws samples/: the pictures that `make demo` asks about, in the three ways people send them."""

from pathlib import Path

import numpy as np
from PIL import Image

from model.synthetic import draw

SAMPLES = Path("samples")


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


def _save(name: str, levels: np.ndarray) -> None:
    Image.fromarray(np.rint(levels).clip(0, 255).astype(np.uint8)).save(SAMPLES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
