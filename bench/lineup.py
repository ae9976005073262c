"""What the line-up reads of MNIST's last 6,000 training images: figures to choose by, as the test images are not.

python -m bench.lineup FOLDER [CLASSIFIER …], where FOLDER holds MNIST's files; without names, all of them
"""

import sys
import time
from pathlib import Path

import numpy as np

from model.canonical import canonical_batch
from model.networks.lineup import LINE_UP
from pipelines.ingest import idx


def main(folder: Path, names: list[str]) -> None:
    images, _ = canonical_batch(idx(folder / "train-images-idx3-ubyte.gz"))
    labels = idx(folder / "train-labels-idx1-ubyte.gz")
    training, validation = np.random.default_rng(0).permutation(54_000), slice(54_000, None)
    for name in names or LINE_UP:
        entry = LINE_UP[name]
        seen = training[: entry.images]
        classifier = entry.build(0)
        begun = time.perf_counter()
        classifier.fit(images[seen], labels[seen])
        fitted = time.perf_counter() - begun
        said = classifier.scores(images[validation]).argmax(axis=1)
        moved = classifier.scores(np.roll(images[validation], (2, 2), (1, 2))).argmax(axis=1)
        right, still = (said == labels[validation]).mean(), (moved == labels[validation]).mean()
        print(
            f"{name}: {right:.2%}, {still:.2%} moved 2 pixels down and right; {len(seen):,} trained on, {fitted:.0f} s"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
