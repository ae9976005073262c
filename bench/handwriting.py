"""How well a bundle reads handwriting it was not tested on by the pipeline: MNIST as people would send it, pen strokes.

    python -m bench.handwriting out/champion --mnist path/to/mnist --pen path/to/pen_digits.jsonl.gz

`--pen` holds a digit a line, {"site", "label", "strokes": [[[x, y], ...], ...]} with y upwards, as the digits of
UNIPEN can be written; each is drawn with a pen of any width, in either polarity. Both ways go through `canonical`.
"""

import argparse
import gzip
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw
from tqdm import tqdm

from model.bundle import BundleError
from model.canonical import Pixels, canonical_batch
from model.predictor import Predictor
from pipelines import ingest
from pipelines.stage import StageError

PEN = (0.03, 0.17)  # its width, as a share of the digit's longer side


def sent(digit: Pixels, rng: Generator) -> Pixels:
    """28 x 28 of MNIST -> dark on paper, 3 to 7 times as large, anywhere on a page of twice that."""
    side = 28 * rng.integers(3, 8)
    large = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    page = np.zeros((2 * side, 2 * side), np.float32)
    top, left = rng.integers(0, side, 2)
    page[top : top + side, left : left + side] = large
    paper, ink = rng.uniform(200, 250), rng.uniform(10, 80)
    grey: Pixels = np.rint(paper + (ink - paper) * page).clip(0, 255).astype(np.uint8)
    return grey


def drawn(strokes: list[list[list[float]]], rng: Generator, side: int = 112, size: int = 80) -> Pixels:
    """Pen strokes in tablet units -> `side` x `side`, the digit `size` high or wide."""
    points = np.concatenate([np.array(stroke, float) for stroke in strokes])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = size / max(float((high - low).max()), 1)
    pen = max(1, round(rng.uniform(*PEN) * size))
    paper, ink = (255, 0) if rng.random() < 0.5 else (0, 255)
    picture = Image.new("L", (side, side), paper)
    sketch = ImageDraw.Draw(picture)
    for stroke in strokes:
        way = (np.array(stroke, float) - (low + high) / 2) * scale * (1, -1) + side / 2
        if len(way) > 1:
            sketch.line([(x, y) for x, y in way], fill=ink, width=pen, joint="curve")
        for x, y in way:
            sketch.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=ink)
    return np.asarray(picture)


def report(what: str, predictor: Predictor, pictures: list[Pixels], labels: list[int]) -> None:
    """One line: how many are read rightly, and what abstaining brings. A picture that is refused counts as an error."""
    right, answered, right_answered = 0, 0, 0
    for at in tqdm(range(0, len(pictures), 500), desc=what, leave=False):
        pixels, refused = canonical_batch(pictures[at : at + 500])
        for i, said in enumerate(predictor.predict(pixels)):
            correct = i not in refused and said.digit == labels[at + i]
            sure = i not in refused and not said.abstained
            right, answered, right_answered = right + correct, answered + sure, right_answered + (correct and sure)
    share = f"{right / len(labels):7.2%} of {len(labels):6,}"
    print(
        f"{what:32} {share}   answered {answered / len(labels):7.2%}, of those {right_answered / answered:7.2%} right"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--mnist", type=Path, help="a folder with MNIST's four .gz files")
    parser.add_argument("--pen", type=Path)
    parser.add_argument("--sites", nargs="*", help="of the pen strokes, these alone")
    asked = parser.parse_args()
    try:
        predictor = Predictor.load(asked.bundle)
        rng = np.random.default_rng(0)
        if asked.mnist:
            ingest.check(asked.mnist)
            source = ingest.mnist(asked.mnist)
            images, labels = source.images[source.is_test], source.labels[source.is_test].tolist()
            report("MNIST test", predictor, list(images), labels)
            report("dark, off centre, 3x to 7x", predictor, [sent(image, rng) for image in images], labels)
        if asked.pen:
            sites: dict[str, list[tuple[Pixels, int]]] = defaultdict(list)
            for line in gzip.decompress(asked.pen.read_bytes()).splitlines():
                digit = json.loads(line)
                if not asked.sites or digit["site"] in asked.sites:
                    sites[digit["site"]].append((drawn(digit["strokes"], rng), int(digit["label"])))
            everyone = [digit for digits in sites.values() for digit in digits]
            for site, digits in [*sorted(sites.items()), ("all", everyone)]:
                images, labels = map(list, zip(*digits, strict=True))
                report(f"pen strokes, {site}", predictor, images, labels)
    except (BundleError, StageError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
