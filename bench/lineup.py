"""Measures what the classifiers of the line-up read of MNIST's last 6,000 training images.

    python -m bench.lineup path/to/mnist [CLASSIFIER ...]        (all of them: about half an hour on 2 cores)

Choices may be made by these figures, because the test images take no part. Each classifier trains on the first 54,000
training images, or on as many as its entry in the line-up takes.
"""

import sys
import time

import numpy as np
from tqdm import tqdm

from bench import command
from model.canonical import canonical_batch
from model.networks.lineup import LINE_UP
from pipelines.ingest import idx


def main() -> None:
    parser = command.Parser("lineup", __doc__)
    parser.add_argument("mnist", type=command.mnist, help="the folder with MNIST's four .gz files")
    parser.add_argument("names", nargs="*", metavar="CLASSIFIER", help=f"of {', '.join(LINE_UP)}")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in LINE_UP]:
        parser.error(f"there is no classifier {unknown[0]!r}; there are {', '.join(LINE_UP)}")
    images, _ = canonical_batch(idx(arguments.mnist / "train-images-idx3-ubyte.gz"))
    labels = idx(arguments.mnist / "train-labels-idx1-ubyte.gz")
    training, validation = np.random.default_rng(0).permutation(54_000), slice(54_000, None)
    accuracies = {}
    for name in (bar := tqdm(arguments.names or LINE_UP, unit="classifier", leave=False, disable=None)):
        bar.set_postfix_str(name)
        entry = LINE_UP[name]
        used = training[: entry.images]
        classifier = entry.build(0)
        begun = time.perf_counter()
        classifier.fit(images[used], labels[used])
        fitted = time.perf_counter() - begun
        read = classifier.scores(images[validation]).argmax(axis=1)
        read_moved = classifier.scores(np.roll(images[validation], (2, 2), (1, 2))).argmax(axis=1)
        accuracies[name], moved = ((guess == labels[validation]).mean() for guess in (read, read_moved))
        tqdm.write(
            f"{name}: {accuracies[name]:.2%}, {moved:.2%} moved 2 pixels down and right;"
            f" {len(used):,} trained on, {fitted:.0f} s",
            file=sys.stdout,
        )
    best = max(accuracies, key=lambda name: float(accuracies[name]))
    print(f"{best} reads the most: {accuracies[best]:.2%} ({len(accuracies)} classifiers).")


if __name__ == "__main__":
    command.run(main)
