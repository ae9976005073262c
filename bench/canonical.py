"""Measures what `canonical` costs, by kind and size of picture: for one picture, and in a batch of 64.

    python -m bench.canonical [--mnist path/to/mnist]        (about a minute)

The pictures are decoded already. The figures are processor time of one thread, the least of several rounds, so that
other load on the machine hardly counts. The digits are synthetic; `--mnist` adds a row of MNIST's training images.
"""

import sys
from functools import partial
from itertools import chain

import numpy as np
from PIL import Image
from tqdm import tqdm

from bench import command
from bench.clock import processor_time
from model.canonical import Pixels, canonical, canonical_batch
from model.synthetic import draw
from pipelines import ingest

BATCH = 64
CLEAN = "28x28, clean, to be enlarged"


def digits(width: int, height: int, *, size: int, count: int) -> list[Pixels]:
    """Synthetic digits in different places, bright ink on 0."""
    rng = np.random.default_rng(0)
    places = [tuple(rng.uniform(0.3, 0.7, 2).tolist()) for _ in range(count)]
    inks = (draw(k % 10, size=size, pen=0.1, canvas=(width, height), at=place) for k, place in enumerate(places))
    return [np.rint(ink * 255).clip(0, 255).astype(np.uint8) for ink in inks]


def photo(digit: Pixels) -> Pixels:
    """Dark ink on paper in uneven light, with a sensor's grain."""
    light = np.linspace(0.6, 1, digit.shape[1], dtype=np.float32)
    grain = np.random.default_rng(0).normal(0, 4, digit.shape).astype(np.float32)
    levels: Pixels = np.rint((230 - digit * np.float32(180 / 255)) * light + grain).clip(0, 255).astype(np.uint8)
    return levels


def small_pictures(count: int = BATCH) -> dict[str, list[Pixels]]:
    clean = digits(28, 28, size=16, count=count)
    return {
        CLEAN: clean,
        "28x28, dark on paper": [255 - digit for digit in clean],
        "28x28, photo": [photo(digit) for digit in clean],
        "8x8, scan": [np.asarray(Image.fromarray(digit[5:23, 5:23]).resize((8, 8))) for digit in clean],
        "280x280, clean": digits(280, 280, size=180, count=count),
        "320x240, photo": [photo(digit) for digit in digits(320, 240, size=120, count=count)],
    }


def large_pictures() -> dict[str, list[Pixels]]:
    pictures = {}
    for megapixels, width, height in ((2, 1600, 1200), (12, 4000, 3000)):
        clean = digits(width, height, size=height // 4, count=1)
        pictures[f"{megapixels} megapixels, clean"] = clean
        pictures[f"{megapixels} megapixels, photo"] = [photo(clean[0])]
    return pictures


def main() -> None:
    parser = command.Parser("canonical", __doc__)
    parser.add_argument("--mnist", type=command.mnist, help="the folder with MNIST's four .gz files")
    parser.add_argument("--rounds", type=command.count, default=30, help="the quickest of them counts")
    arguments = parser.parse_args()
    mnist = {}
    if folder := arguments.mnist:
        mnist["28x28, MNIST"] = list(ingest.idx(folder / "train-images-idx3-ubyte.gz")[:BATCH])
    rows = list(chain(mnist.items(), small_pictures().items(), large_pictures().items()))
    print(f"{'us for each image':42} {'alone':>9} {'of ' + str(BATCH):>9}")
    measured = {}
    for name, images in tqdm(rows, unit="row", leave=False, disable=None):
        rounds = arguments.rounds if len(images) > 1 else min(arguments.rounds, 5)
        alone = np.mean(processor_time(*(partial(canonical, image) for image in images), rounds=rounds)) * 1e6
        line = f"{name:42} {alone:9,.0f}"
        if len(images) > 1:
            (seconds,) = processor_time(partial(canonical_batch, images), rounds=rounds)
            measured[name] = alone, seconds / len(images) * 1e6
            line += f" {measured[name][1]:9,.0f}"
        tqdm.write(line, file=sys.stdout)
    alone, in_batch = measured[CLEAN]
    print(f"A clean 28x28 digit takes {alone:,.0f} us alone and {in_batch:,.0f} us in a batch of {BATCH}.")


if __name__ == "__main__":
    command.run(main)
