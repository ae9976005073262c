"""What `canonical` takes, by kind and size of picture: alone, and in a batch of 64.

    python -m bench.canonical [--mnist path/to/mnist]

The pictures are decoded already. Processor time of one thread, the least of several rounds: what else runs on the
machine hardly counts. Digits are drawn, or MNIST's training images with `--mnist`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from model.canonical import Pixels, canonical, canonical_batch
from model.synthetic import draw
from pipelines import ingest

BATCH = 64
ROUNDS = 30


def spent(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds of processor time, in the quickest of the rounds."""
    times = []
    for _ in range(rounds):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


def drawn(width: int, height: int, *, size: float, count: int = BATCH) -> list[Pixels]:
    """Digits, ink bright on 0, in different places."""
    rng = np.random.default_rng(0)
    return [
        np.rint(draw(k % 10, size=size, pen=0.1, canvas=(width, height), at=tuple(rng.uniform(0.3, 0.7, 2))) * 255)
        .clip(0, 255)
        .astype(np.uint8)
        for k in range(count)
    ]


def photo(digit: Pixels) -> Pixels:
    """Dark on paper, the light uneven, with a sensor's grain."""
    light = np.linspace(0.6, 1, digit.shape[1], dtype=np.float32)
    grain = np.random.default_rng(0).normal(0, 4, digit.shape).astype(np.float32)
    return np.rint((230 - digit * np.float32(180 / 255)) * light + grain).clip(0, 255).astype(np.uint8)


def report(name: str, images: list[Pixels]) -> None:
    """One line: microseconds for each image, alone and in the batch."""
    alone = np.mean([spent(lambda image=image: canonical(image)) for image in images])
    together = spent(lambda: canonical_batch(images)) / len(images)
    print(f"{name:42} {alone * 1e6:9,.0f} {together * 1e6:9,.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mnist", type=Path, help="the folder with MNIST's train-images-idx3-ubyte.gz")
    folder = parser.parse_args().mnist
    print(f"{'us for each image':42} {'alone':>9} {'of ' + str(BATCH):>9}")
    if folder:
        mnist = ingest.idx(folder / "train-images-idx3-ubyte.gz")[:BATCH]
        report("28x28, MNIST", list(mnist))
    digits = drawn(28, 28, size=16)
    report("28x28, clean, to be enlarged", digits)
    report("28x28, dark on paper", [255 - digit for digit in digits])
    report("28x28, photo", [photo(digit) for digit in digits])
    report("8x8, scan", [np.asarray(Image.fromarray(digit[5:23, 5:23]).resize((8, 8))) for digit in digits])
    report("280x280, clean", drawn(280, 280, size=180))
    report("320x240, photo", [photo(digit) for digit in drawn(320, 240, size=120)])
    for megapixels, width, height in ((2, 1600, 1200), (12, 4000, 3000)):
        (image,) = drawn(width, height, size=height / 4, count=1)
        for kind, levels in (("clean", image), ("photo", photo(image))):
            took = spent(lambda levels=levels: canonical(levels), rounds=5)
            print(f"{f'{megapixels} megapixels, {kind}':42} {took * 1e6:9,.0f}")


if __name__ == "__main__":
    main()
