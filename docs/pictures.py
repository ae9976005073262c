"""Draws docs/canonical.png: pictures as people send them, and the 28x28 that `canonical` makes of each.

python -m docs.pictures
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from bench.camera import PHOTOS, on_page
from model.canonical import canonical
from model.synthetic import draw

OUT = Path("docs/canonical.png")
WIDTH, HEIGHT, SEEN, GAP, LINE = 128, 96, 56, 8, 12  # pixels
GROUND = "#c8ccd4"


def main() -> None:
    names = [name for name in PHOTOS if name != "clean"]
    columns = 5
    cell = HEIGHT + SEEN + LINE + 2 * GAP
    sheet = Image.new("RGB", (columns * (WIDTH + GAP) + GAP, -(-len(names) // columns) * cell + GAP), GROUND)
    write = ImageDraw.Draw(sheet)
    for index, name in enumerate(names):
        rng = np.random.default_rng(index)
        digit = np.rint(draw(index % 10, size=20, pen=0.12, canvas=(28, 28)) * 255).clip(0, 255).astype(np.uint8)
        share = on_page(digit, rng.uniform(3, 6), (240, 320), (rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9)))
        photo = PHOTOS[name](share, rng)
        left, top = GAP + index % columns * (WIDTH + GAP), GAP + index // columns * cell
        sheet.paste(_shown(photo), (left, top + LINE))
        seen = Image.fromarray(canonical(photo)).resize((SEEN, SEEN), Image.Resampling.NEAREST)
        sheet.paste(seen, (left + (WIDTH - SEEN) // 2, top + LINE + HEIGHT + GAP // 2))
        write.text((left, top - 1), name, fill="black")
    sheet.quantize(64).save(OUT, optimize=True)
    print(f"{OUT}: {OUT.stat().st_size / 1000:.0f} kB")


def _shown(photo: Image.Image) -> Image.Image:
    """The photo scaled to its cell, without its EXIF rotation. Chequers show where it is transparent."""
    photo = photo.convert("RGBA")
    scale = min(WIDTH / photo.width, HEIGHT / photo.height)
    small = photo.resize((round(photo.width * scale), round(photo.height * scale)))
    y, x = np.indices((HEIGHT, WIDTH)) // 6
    chequers = np.where((y + x) % 2, 235, 255).astype(np.uint8)
    transparent = bool((np.asarray(photo.getchannel("A")) < 255).any())
    shown = Image.fromarray(chequers).convert("RGB") if transparent else Image.new("RGB", (WIDTH, HEIGHT), GROUND)
    shown.paste(small, ((WIDTH - small.width) // 2, (HEIGHT - small.height) // 2), small)
    return shown


if __name__ == "__main__":
    main()
