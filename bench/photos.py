"""Measures how well a bundle reads photos: MNIST's validation images as people might photograph them.

    python -m bench.photos out/champion --mnist path/to/mnist [--images 600]        (about two minutes)

The images are from the last 6,000 of MNIST's training images, enlarged 3 to 7 times, anywhere on a page of 320x240. The
table has a row for each kind of photo.
"""

import sys

import numpy as np
from tqdm import tqdm

from bench import command
from bench.camera import PHOTOS, on_page
from model.canonical import canonical_batch
from model.predictor import Predictor
from pipelines import ingest

PAGE = (240, 320)  # height, width


def main() -> None:
    parser = command.Parser("photos", __doc__)
    parser.add_argument("bundle", type=command.bundle)
    parser.add_argument("--mnist", type=command.mnist, required=True, help="the folder with MNIST's four .gz files")
    parser.add_argument("--images", type=command.count, default=600, help="for each kind, at most 6,000")
    arguments = parser.parse_args()
    predictor = Predictor.load(arguments.bundle)
    rows = 54_000 + np.random.default_rng(1).permutation(6_000)[: arguments.images]
    images = ingest.idx(arguments.mnist / "train-images-idx3-ubyte.gz")[rows]
    labels = ingest.idx(arguments.mnist / "train-labels-idx1-ubyte.gz")[rows]
    print("| photo | accuracy | refused |\n|---|---|---|")
    accuracies = {}
    for name, photograph in (bar := tqdm(PHOTOS.items(), unit="kind", leave=False, disable=None)):
        bar.set_postfix_str(name)
        rng = np.random.default_rng(7)
        photos = []
        for image in images:
            share = on_page(image, rng.uniform(3, 7), PAGE, (rng.uniform(0, 1), rng.uniform(0, 1)))
            photos.append(photograph(share, rng))
        pixels, refused = canonical_batch(photos)
        correct = predictor.probabilities(pixels).argmax(axis=1) == labels
        correct[list(refused)] = False
        accuracies[name] = float(correct.mean())
        tqdm.write(f"| {name} | {accuracies[name]:.1%} | {len(refused)} |", file=sys.stdout)
    worst = min(accuracies, key=lambda name: accuracies[name])
    mean = sum(accuracies.values()) / len(accuracies)
    print(f"\nMean accuracy {mean:.1%} over {len(accuracies)} kinds of photos; the worst is {worst}.")


if __name__ == "__main__":
    command.run(main)
