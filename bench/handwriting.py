"""Measures how well a bundle reads handwriting that the pipeline does not test: MNIST's test images and pen strokes.

    python -m bench.handwriting out/champion --mnist path/to/mnist --pen path/to/pen_digits.jsonl.gz

MNIST's images are read as they are, and as people would send them. The file of `--pen` has one digit on each line, as
{"site", "label", "strokes": [[[x, y], ...], ...]} with y upwards; the digits of UNIPEN can be written so. Each is
drawn with a pen of random width, dark on bright or bright on dark. All pictures go through `canonical`.
"""

import gzip
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw
from tqdm import tqdm

from bench import command
from model.canonical import Pixels, canonical_batch
from model.predictor import Predictor
from pipelines import ingest
from pipelines.stage import StageError

PEN = (0.03, 0.17)  # the least and the greatest width, as a share of the digit's longer side


def sent(digit: Pixels, rng: Generator) -> Pixels:
    """A 28 x 28 image of MNIST as dark ink, enlarged 3 to 7 times, anywhere on a page of twice its width and height."""
    side = 28 * int(rng.integers(3, 8))
    large = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC), np.float32) / 255
    page = np.zeros((2 * side, 2 * side), np.float32)
    top, left = rng.integers(0, side, 2)
    page[top : top + side, left : left + side] = large
    paper, ink = rng.uniform(200, 250), rng.uniform(10, 80)
    grey: Pixels = np.rint(paper + (ink - paper) * page).clip(0, 255).astype(np.uint8)
    return grey


def drawn(strokes: list[list[list[float]]], rng: Generator, side: int = 112, size: int = 80) -> Pixels:
    """A picture of pen strokes, `side` x `side`. The digit's longer side is `size`. Strokes are in tablet units."""
    points = np.concatenate([np.array(stroke, float) for stroke in strokes])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = size / max(float((high - low).max()), 1)
    pen = max(1, round(rng.uniform(*PEN) * size))
    paper, ink = (255, 0) if rng.random() < 0.5 else (0, 255)
    picture = Image.new("L", (side, side), paper)
    sketch = ImageDraw.Draw(picture)
    for stroke in strokes:
        path = (np.array(stroke, float) - (low + high) / 2) * scale * (1, -1) + side / 2
        if len(path) > 1:
            sketch.line([(x, y) for x, y in path], fill=ink, width=pen, joint="curve")
        for x, y in path:
            sketch.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), fill=ink)
    return np.asarray(picture)


def report(name: str, predictor: Predictor, pictures: list[Pixels], labels: list[int]) -> tuple[int, int]:
    """Prints the accuracy, and what abstaining brings. A refused picture counts as an error.

    Returns the number of correct answers and the number of pictures.
    """
    correct, answered, correct_answers = 0, 0, 0
    for at in tqdm(range(0, len(pictures), 500), name, leave=False, disable=None):
        pixels, refused = canonical_batch(pictures[at : at + 500])
        for i, prediction in enumerate(predictor.predict(pixels)):
            is_correct = i not in refused and prediction.digit == labels[at + i]
            is_answered = i not in refused and not prediction.abstained
            correct += is_correct
            answered += is_answered
            correct_answers += is_correct and is_answered
    of_answered = f", of those {correct_answers / answered:7.2%} correct" if answered else ""
    share = f"{correct / len(labels):7.2%} of {len(labels):6,}"
    print(f"{name:32} {share}   answered {answered / len(labels):7.2%}{of_answered}")
    return correct, len(labels)


def strokes_by_site(path: Path, sites: list[str] | None, rng: Generator) -> dict[str, list[tuple[Pixels, int]]]:
    """The pictures and labels of each site in `path`, or of `sites` alone. Raises `StageError` for any other file."""
    digits: dict[str, list[tuple[Pixels, int]]] = defaultdict(list)
    try:
        for line in gzip.decompress(path.read_bytes()).splitlines():
            digit = json.loads(line)
            if not sites or digit["site"] in sites:
                digits[digit["site"]].append((drawn(digit["strokes"], rng), int(digit["label"])))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise StageError(f"{path} is not a gzip file of pen strokes: {error}") from None
    if not digits:
        raise StageError(f"{path} holds no pen strokes of {', '.join(sites or ['any site'])}")
    return digits


def main() -> None:
    parser = command.Parser("handwriting", __doc__)
    parser.add_argument("bundle", type=command.bundle)
    parser.add_argument("--mnist", type=command.mnist, help="the folder with MNIST's four .gz files")
    parser.add_argument("--pen", type=command.file, help="a gzip file of pen strokes")
    parser.add_argument("--sites", nargs="*", help="read the pen strokes of these sites alone")
    arguments = parser.parse_args()
    if not arguments.mnist and not arguments.pen:
        parser.error("give --mnist, --pen, or both")
    predictor = Predictor.load(arguments.bundle)
    rng = np.random.default_rng(0)
    totals = []
    if arguments.mnist:
        ingest.check(arguments.mnist)
        source = ingest.mnist(arguments.mnist)
        images, labels = list(source.images[source.is_test]), source.labels[source.is_test].tolist()
        totals.append(report("MNIST test", predictor, images, labels))
        sent_images = [sent(image, rng) for image in images]
        totals.append(report("dark, off centre, 3x to 7x", predictor, sent_images, labels))
    if arguments.pen:
        sites = strokes_by_site(arguments.pen, arguments.sites, rng)
        for site, digits in sorted(sites.items()):
            report(f"pen strokes, {site}", predictor, *_apart(digits))
        everyone = [digit for digits in sites.values() for digit in digits]
        totals.append(report("pen strokes, all", predictor, *_apart(everyone)))
    correct, pictures = map(sum, zip(*totals, strict=True))
    print(f"{correct / pictures:.2%} of {pictures:,} pictures are read correctly.")


def _apart(digits: list[tuple[Pixels, int]]) -> tuple[list[Pixels], list[int]]:
    """The pictures, and their labels."""
    return [picture for picture, _ in digits], [label for _, label in digits]


if __name__ == "__main__":
    command.run(main)
