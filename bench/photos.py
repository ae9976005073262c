"""How well a bundle reads MNIST's validation images as photos of them: one line for each kind of photo.

    python -m bench.photos out/champion --mnist path/to/mnist [--images 600]

The images are the last 6,000 of MNIST's training images, 3 to 7 times as large, anywhere on a page of 320x240.
"""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from model.canonical import canonical_batch
from model.predictor import Predictor
from pipelines import ingest
from tests.model.photos import PHOTOS, on_page

PAGE = (240, 320)  # height, width


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--mnist", type=Path, required=True, help="the folder with MNIST's training files")
    parser.add_argument("--images", type=int, default=600, help="for each kind")
    arguments = parser.parse_args()
    predictor = Predictor.load(arguments.bundle)
    rows = 54_000 + np.random.default_rng(1).permutation(6_000)[: arguments.images]
    images = ingest.idx(arguments.mnist / "train-images-idx3-ubyte.gz")[rows]
    labels = ingest.idx(arguments.mnist / "train-labels-idx1-ubyte.gz")[rows]
    print("| photo | read rightly | refused |\n|---|---|---|")
    for name, taken in PHOTOS.items():
        rng = np.random.default_rng(7)
        photos = []
        for image in tqdm(images, desc=name, leave=False, disable=None):
            share = on_page(image, rng.uniform(3, 7), PAGE, (rng.uniform(0, 1), rng.uniform(0, 1)))
            photos.append(taken(share, rng))
        pixels, refused = canonical_batch(photos)
        read = predictor.probabilities(pixels).argmax(axis=1) == labels
        read[list(refused)] = False
        print(f"| {name} | {read.mean():.1%} | {len(refused)} |")


if __name__ == "__main__":
    main()
